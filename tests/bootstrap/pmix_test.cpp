#include <doctest/doctest.h>

#include "tests/bootstrap/collective_checks.hpp"

// The launcher serves a process once, so one test case walks through a rank's whole time with it.
TEST_CASE("ranks under a PMIx launcher exchange bytes of any size until they finalise") {
  auto detected = trireme::transport::bootstrap_detect();
  REQUIRE_MESSAGE(detected.ok(), (detected.ok() ? std::string() : detected.error().message));
  auto& bootstrap = *detected.value();
  CHECK(bootstrap.name() == "pmix");
  CHECK(std::to_string(bootstrap.size()) == std::getenv("OMPI_COMM_WORLD_SIZE"));
  trireme::test::check_exchanges(bootstrap);
  trireme::test::check_session(bootstrap);
  trireme::test::check_builds(bootstrap);
  trireme::test::check_finalized(bootstrap);
}
