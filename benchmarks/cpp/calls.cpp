// Calls to an actor in another rank.
#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

struct Empty {
  int nothing() { return 0; }
};

double one_by_one(const trireme::Actor<Empty>& far) {
  return nanos_per_op(0.3, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) trireme::get(far.call<&Empty::nothing>());
  });
}

double batches(const trireme::Actor<Empty>& far, std::uint64_t batch) {
  std::vector<trireme::Ref<int>> answers;
  answers.reserve(batch);
  return nanos_per_op(0.3,
                      [&](std::uint64_t n) {
                        for (std::uint64_t i = 0; i < n; ++i) {
                          for (std::uint64_t j = 0; j < batch; ++j) answers.push_back(far.call<&Empty::nothing>());
                          for (const auto& answer : answers) trireme::get(answer);
                          answers.clear();
                        }
                      }) /
         static_cast<double>(batch);
}

trireme::Actor<Empty> far_actor() {
  expect(trireme::rank_count() > 1, "two ranks are needed: mpirun -n 2");
  auto far = trireme::spawn_with<Empty>(actor_on_rank(1));
  trireme::get(far.call<&Empty::nothing>());
  return far;
}

bool from_task(const Arguments& arguments) { return arguments.text("from", "main") == "task"; }

std::optional<double> call(const Arguments& arguments) {
  const auto far = far_actor();
  if (from_task(arguments)) return trireme::get(trireme::submit_with<&one_by_one>(on_rank(0), far));
  return one_by_one(far);
}

std::optional<double> burst(const Arguments& arguments) {
  const auto far = far_actor();
  const std::uint64_t batch = arguments.number("batch", 1000);
  if (from_task(arguments)) return trireme::get(trireme::submit_with<&batches>(on_rank(0), far, batch));
  return batches(far, batch);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("call", "ns/round trip", call);
  program.add("burst", "ns/call", burst);
  return program.run(argc, argv);
}
