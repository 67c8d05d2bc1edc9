// A function and an actor that only rank 0 has: calls to other ranks end with an error that says so, and these go on.
#include <dlfcn.h>

#include <cstdio>
#include <trireme/trireme.hpp>

namespace {

int failed = 0;

void expect(bool holds, const char* what, const std::string& found) {
  std::printf("%s: %s: %s\n", holds ? "ok" : "FAILED", what, found.c_str());
  if (!holds) failed = 1;
}

trireme::Rank where() { return trireme::this_rank(); }

void check(void* plugin, const char* name) {
  const auto call = reinterpret_cast<int (*)(trireme::Rank)>(dlsym(plugin, name));
  expect(call != nullptr, "the plugin has", name);
  if (call == nullptr) return;
  expect(call(0) == 42, "runs where it is loaded", name);
  for (trireme::Rank rank = 1; rank < trireme::rank_count(); ++rank) {
    try {
      call(rank);
      expect(false, "ran in a rank that does not have it", name);
    } catch (const trireme::Exception& error) {
      const std::string text = error.what();
      expect(text.find("load the same libraries on every rank") != std::string::npos, name, text);
    }
    trireme::TaskOptions there;
    there.placement = trireme::Placement::on(rank);
    expect(trireme::get(trireme::submit_with<&where>(there)) == rank, "goes on", "rank " + std::to_string(rank));
  }
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  void* plugin = dlopen(UNKNOWN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  expect(plugin != nullptr, "loading " UNKNOWN_PLUGIN, plugin == nullptr ? dlerror() : "done");
  if (plugin == nullptr) return 1;
  check(plugin, "plugin_task");
  check(plugin, "plugin_actor");
  return failed;
}
