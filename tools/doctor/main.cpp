// Prints what every rank of the job found: cores, NUMA, memory, devices, and the transport to every other rank with its
// reason. Run it as the job would be run: `mpirun -n 4 trireme-doctor`, `srun --mpi=pmix trireme-doctor`.
#include <cstdio>
#include <trireme/trireme.hpp>
#include <trireme/version.hpp>

namespace {

trireme::Topology look() { return trireme::topology(); }

}  // namespace

int main(int argc, char** argv) {
  try {
    trireme::Runtime runtime(argc, argv);
    if (argc > 1) {
      std::fprintf(stderr, "trireme-doctor takes no arguments besides --trireme-...; found '%s'\n", argv[1]);
      return 2;
    }
    std::printf("Trireme %s, %u rank%s\n", TRIREME_VERSION_STRING, runtime.size(), runtime.size() == 1 ? "" : "s");
    std::vector<trireme::Ref<trireme::Topology>> reports;
    for (trireme::Rank rank = 0; rank < runtime.size(); ++rank) {
      trireme::TaskOptions there;
      there.placement = trireme::Placement::on(rank);
      there.resources.cpus = 0;
      reports.push_back(trireme::submit_with<&look>(there));
    }
    for (const auto& report : reports) {
      const auto found = trireme::get(report);
      std::printf("\nrank %u: node %s, %u compute threads, arena %.1f GiB\n%s", found.rank, found.node.c_str(),
                  found.threads, static_cast<double>(found.arena_bytes) / (1 << 30), found.text.c_str());
    }
  } catch (const trireme::Exception& error) {
    std::fprintf(stderr, "trireme-doctor: %s\n", error.what());
    return 1;
  }
  return 0;
}
