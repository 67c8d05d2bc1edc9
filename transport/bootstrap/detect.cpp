#include <cstdlib>

#include <fmt/format.h>

#include "transport/bootstrap.hpp"

namespace trireme::transport {
namespace {

std::uint64_t number_from_env(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> bootstrap_detect() {
  if (std::getenv("TRIREME_LOCAL_RANK") != nullptr) {
    auto options = local_options_from_environment();
    if (!options) return options.error();
    return bootstrap_local(std::move(*options));
  }
  if (std::getenv("PMIX_RANK") != nullptr) return bootstrap_pmix();
  // srun sets the step's task count; a batch script that runs without srun has none and is one rank.
  if (const auto tasks = number_from_env("SLURM_STEP_NUM_TASKS"); tasks > 1 && std::getenv("SLURM_PROCID") != nullptr)
    return make_error(Errc::unavailable,
                      fmt::format("this process is task {} of {} of a Slurm job step, but srun offers no PMIx: start "
                                  "it with `srun --mpi=pmix` (`srun --mpi=list` shows what this site has)",
                                  std::getenv("SLURM_PROCID"), tasks));
  if (const auto ranks = number_from_env("PMI_SIZE"); ranks > 1)
    return make_error(Errc::unavailable,
                      fmt::format("this process is one of {} ranks of a launcher that speaks PMI, not PMIx: start it "
                                  "with Open MPI's mpirun or `srun --mpi=pmix`, or hand an MPI communicator to "
                                  "trireme::embed",
                                  ranks));
  return bootstrap_single();
}

}  // namespace trireme::transport
