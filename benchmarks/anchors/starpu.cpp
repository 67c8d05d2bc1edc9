// StarPU: empty tasks, submitted from one thread and awaited together.
#include <starpu.h>

#include <cstdio>
#include <cstdlib>

#include "benchmarks/harness/harness.hpp"

namespace {

using trireme::bench::Arguments;

void nothing(void** /*buffers*/, void* /*argument*/) {}

std::optional<double> empty(const Arguments&) {
  starpu_conf conf;
  starpu_conf_init(&conf);
  conf.ncuda = 0;
  conf.nopencl = 0;
  if (starpu_init(&conf) != 0) {
    std::fprintf(stderr, "starpu_init failed\n");
    std::exit(1);
  }
  starpu_codelet codelet;
  starpu_codelet_init(&codelet);
  codelet.cpu_funcs[0] = nothing;
  codelet.nbuffers = 0;
  const double nanos = trireme::bench::nanos_per_op(0.2, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      starpu_task* task = starpu_task_create();
      task->cl = &codelet;
      if (starpu_task_submit(task) != 0) std::exit(1);
    }
    starpu_task_wait_for_all();
  });
  starpu_shutdown();
  return nanos;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("empty", "ns/task", empty);
  return program.run(argc, argv);
}
