#define DOCTEST_CONFIG_IMPLEMENT
#include "transport/bootstrap_mpi.hpp"

#include "tests/bootstrap/collective_checks.hpp"

using namespace trireme;
using namespace trireme::transport;

namespace {

std::unique_ptr<Bootstrap> over(MPI_Comm comm) {
  auto made = bootstrap_mpi(comm);
  REQUIRE_MESSAGE(made.ok(), (made.ok() ? std::string() : made.error().message));
  return std::move(made).value();
}

}  // namespace

TEST_CASE("the ranks of a communicator exchange bytes of any size until they finalise") {
  auto bootstrap = over(MPI_COMM_WORLD);
  CHECK(bootstrap->name() == "mpi");
  int rank = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  CHECK(bootstrap->rank() == static_cast<Rank>(rank));
  test::check_exchanges(*bootstrap);
  test::check_session(*bootstrap);
  test::check_builds(*bootstrap);
  test::check_finalized(*bootstrap);
}

TEST_CASE("a communicator of some ranks in another order makes a runtime of its own") {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &half);
  auto bootstrap = over(half);
  CHECK(bootstrap->size() == static_cast<std::uint32_t>(rank % 2 == 0 ? (size + 1) / 2 : size / 2));
  test::check_exchanges(*bootstrap);
  MPI_Comm_free(&half);
  test::check_session(*bootstrap);  // its own duplicate lives on
}

TEST_CASE("the caller's messages on the same communicator are its own") {
  auto bootstrap = over(MPI_COMM_WORLD);
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int from_left = -1;
  MPI_Request request;
  MPI_Irecv(&from_left, 1, MPI_INT, (rank + size - 1) % size, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
  test::check_exchanges(*bootstrap);
  MPI_Send(&rank, 1, MPI_INT, (rank + 1) % size, 0, MPI_COMM_WORLD);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  CHECK(from_left == (rank + size - 1) % size);
}

TEST_CASE("no communicator is an error") {
  const auto made = bootstrap_mpi(MPI_COMM_NULL);
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().code == Errc::invalid_argument);
}

int main(int argc, char** argv) {
  const auto early = bootstrap_mpi(MPI_COMM_WORLD);
  const bool refused = !early.ok() && early.error().message.find("MPI_Init") != std::string::npos;
  MPI_Init(&argc, &argv);
  doctest::Context context(argc, argv);
  int failed = context.run();
  if (!refused) {
    std::fprintf(stderr, "bootstrap_mpi before MPI_Init was not refused\n");
    failed = 1;
  }
  MPI_Finalize();
  return failed;
}
