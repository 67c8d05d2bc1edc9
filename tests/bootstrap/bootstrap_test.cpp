#include <doctest/doctest.h>

#include <cstdlib>
#include <initializer_list>

#include "transport/bootstrap.hpp"

using namespace trireme;
using namespace trireme::transport;

namespace {

/// Runs with exactly these launcher variables and restores the former ones.
class LauncherEnvironment {
 public:
  explicit LauncherEnvironment(std::initializer_list<std::pair<const char*, const char*>> set) {
    for (const char* name : {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "PMI_SIZE", "TRIREME_LOCAL_RANK",
                             "TRIREME_LOCAL_SIZE", "TRIREME_LOCAL_SOCKET", "TRIREME_LOCAL_TIMEOUT_S"}) {
      const char* value = std::getenv(name);
      former_.emplace_back(name, value == nullptr ? "" : value);
      unsetenv(name);
    }
    for (const auto& [name, value] : set) setenv(name, value, 1);
  }
  ~LauncherEnvironment() {
    for (const auto& [name, value] : former_)
      value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::pair<std::string, std::string>> former_;
};

}  // namespace

TEST_CASE("without a launcher there is one rank") {
  const LauncherEnvironment environment({});
  auto detected = bootstrap_detect();
  REQUIRE(detected.ok());
  auto& bootstrap = *detected.value();
  CHECK(bootstrap.name() == "single");
  CHECK(bootstrap.rank() == 0);
  CHECK(bootstrap.size() == 1);
  CHECK(bootstrap.barrier().ok());
  const Bytes mine(5000, std::byte{3});
  auto all = bootstrap.all_gather(mine);
  REQUIRE(all.ok());
  REQUIRE(all.value().size() == 1);
  CHECK(all.value()[0] == mine);
  bootstrap.finalize();
}

TEST_CASE("two single runtimes of one machine have different sessions") {
  CHECK(bootstrap_single()->session() != bootstrap_single()->session());
}

TEST_CASE("a batch script of many tasks that runs without srun is one rank") {
  const LauncherEnvironment environment({{"SLURM_PROCID", "0"}});
  auto detected = bootstrap_detect();
  REQUIRE(detected.ok());
  CHECK(detected.value()->size() == 1);
}

TEST_CASE("srun without PMIx is an error that names the flag") {
  const LauncherEnvironment environment({{"SLURM_PROCID", "2"}, {"SLURM_STEP_NUM_TASKS", "4"}});
  auto detected = bootstrap_detect();
  REQUIRE_FALSE(detected.ok());
  CHECK(detected.error().code == Errc::unavailable);
  CHECK(detected.error().message.find("task 2 of 4") != std::string::npos);
  CHECK(detected.error().message.find("--mpi=pmix") != std::string::npos);
}

TEST_CASE("a launcher that speaks another protocol is an error") {
  const LauncherEnvironment environment({{"PMI_SIZE", "8"}});
  auto detected = bootstrap_detect();
  REQUIRE_FALSE(detected.ok());
  CHECK(detected.error().message.find("8 ranks") != std::string::npos);
}

TEST_CASE("a PMIx variable without a PMIx server is an error, not a hang") {
  const LauncherEnvironment environment({{"PMIX_RANK", "0"}});
  auto detected = bootstrap_detect();
  REQUIRE_FALSE(detected.ok());
  CHECK(detected.error().code == Errc::unavailable);
  CHECK(detected.error().message.find("PMIx_Init") != std::string::npos);
}

TEST_CASE("a local cluster comes before any launcher") {
  const LauncherEnvironment environment({{"PMIX_RANK", "0"},
                                         {"TRIREME_LOCAL_RANK", "0"},
                                         {"TRIREME_LOCAL_SIZE", "1"},
                                         {"TRIREME_LOCAL_SOCKET", "@trireme-bootstrap-test"}});
  auto detected = bootstrap_detect();
  REQUIRE_MESSAGE(detected.ok(), (detected.ok() ? std::string() : detected.error().message));
  CHECK(detected.value()->name() == "local");
  CHECK(detected.value()->size() == 1);
}

TEST_CASE("a local cluster whose variables make no sense is an error that names the variable") {
  const auto refused = [](std::initializer_list<std::pair<const char*, const char*>> set) {
    const LauncherEnvironment environment(set);
    auto detected = bootstrap_detect();
    REQUIRE_FALSE(detected.ok());
    CHECK(detected.error().code == Errc::invalid_argument);
    return detected.error().message;
  };
  CHECK(refused({{"TRIREME_LOCAL_RANK", "0"}}).find("TRIREME_LOCAL_SIZE is not set") != std::string::npos);
  CHECK(refused({{"TRIREME_LOCAL_RANK", "one"}, {"TRIREME_LOCAL_SIZE", "2"}}).find("TRIREME_LOCAL_RANK is \"one\"") !=
        std::string::npos);
  CHECK(refused({{"TRIREME_LOCAL_RANK", "1"}, {"TRIREME_LOCAL_SIZE", "2"}}).find("TRIREME_LOCAL_SOCKET is not set") !=
        std::string::npos);
  CHECK(refused({{"TRIREME_LOCAL_RANK", "2"}, {"TRIREME_LOCAL_SIZE", "2"}, {"TRIREME_LOCAL_SOCKET", "@x"}})
            .find("rank 2 of 2") != std::string::npos);
}
