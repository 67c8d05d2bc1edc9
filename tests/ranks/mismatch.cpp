// Ranks that load different builds of a library: a call whose arguments mean something else there ends with an error
// that says which, and the rank goes on.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <trireme/trireme.hpp>

namespace {

int failed = 0;
using Call = void(const char*, trireme::Rank, char*, std::size_t);

void expect(bool holds, const std::string& what, const std::string& found) {
  std::printf("%s: %s: %s\n", holds ? "ok" : "FAILED", what.c_str(), found.c_str());
  if (!holds) failed = 1;
}

trireme::Rank where() { return trireme::this_rank(); }

void check(Call* call, const char* which, trireme::Rank rank, std::initializer_list<const char*> parts) {
  char text[4096];
  call(which, rank, text, sizeof text);
  for (const char* part : parts) expect(std::strstr(text, part) != nullptr, std::string(which) + " says " + part, text);
  trireme::TaskOptions there;
  there.placement = trireme::Placement::on(rank);
  expect(trireme::get(trireme::submit_with<&where>(there)) == rank, "goes on", "rank " + std::to_string(rank));
}

}  // namespace

int main(int argc, char** argv) {
  const char* rank = std::getenv("PMIX_RANK");
  const bool first = rank == nullptr || std::strcmp(rank, "0") == 0;
  void* plugin = dlopen(first ? MISMATCH_PLUGIN_1 : MISMATCH_PLUGIN_2, RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) {
    std::printf("FAILED: %s\n", dlerror());
    return 1;
  }
  auto* call = reinterpret_cast<Call*>(dlsym(plugin, "mismatch_call"));
  trireme::Runtime runtime(argc, argv);
  for (trireme::Rank to = 1; to < trireme::rank_count(); ++to) {
    const std::string on_rank = "on rank " + std::to_string(to);
    check(call, "task", to, {"type mismatch", "rank 0 called", "sides", on_rank.c_str(), "argument 2 of 3", "Shape"});
    check(call, "archive", to, {"type mismatch", "length", "argument 2 of 2", "Record", "1 references"});
    check(call, "result", to, {"type mismatch", "32 bytes", "Shape"});
    check(call, "method", to, {"type mismatch", "add_shape", "argument 1 of 1", "Shape"});
    check(call, "constructor", to, {"actor died", "argument 1 of 1", "Shape"});
    check(call, "actor after a refused call", to, {"total 2"});
  }
  return failed;
}
