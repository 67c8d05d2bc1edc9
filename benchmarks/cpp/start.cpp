// The life of a program that does next to nothing: the driver takes the time from its start to its end.
#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

trireme::Rank here() { return trireme::this_rank(); }

}  // namespace

int main(int argc, char** argv) {
  double milliseconds = 0;
  milliseconds = 1e3 * seconds_of([&] {
                   trireme::Runtime runtime(argc, argv);
                   std::vector<trireme::Ref<trireme::Rank>> answers;
                   for (trireme::Rank r = 0; r < runtime.size(); ++r)
                     answers.push_back(trireme::submit_with<&here>(on_rank(r)));
                   for (trireme::Rank r = 0; r < runtime.size(); ++r)
                     expect(trireme::get(answers[r]) == r, "rank that answered");
                 });
  Program program;
  // From the runtime's start to its end, without what the launcher and the loader cost.
  program.add("every", "ms", [&](const Arguments&) { return milliseconds; });
  return program.run(argc, argv);
}
