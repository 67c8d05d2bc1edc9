// Every rank is a program of its own here, so each runs the same cases in the same order; a case that fails in one rank
// makes that rank's exit status a failure. main() keeps MPI around all cases.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <mpi.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <optional>
#include <string>
#include <trireme/embed.hpp>
#include <trireme/trireme.hpp>

namespace {

/// Which file's bytes lie at an address: two processes that find the same look at the same memory.
struct Place {
  std::uint64_t inode = 0, offset = 0;
  bool operator==(const Place&) const = default;
};

Place place_of(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0, last = 0, offset = 0, inode = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %*s %lx %*s %lu", &first, &last, &offset, &inode) == 4 && at >= first &&
        at < last)
      return {inode, offset + (at - first)};
  }
  return {};
}

struct Seen {
  Place place;
  double sum = 0;
};

class Reader {
 public:
  Seen read(const trireme::Array<double>& field) {
    return {place_of(field.data()), std::accumulate(field.begin(), field.end(), 0.0)};
  }
};

int ranks() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}
int self() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}
trireme::Rank where() { return trireme::this_rank(); }

/// The reader that rank `where` spawns for the others, found by name by all. Collective: an actor ends with its last
/// handle, so nobody goes on before everybody has one.
trireme::Actor<Reader> reader_in(trireme::Rank where) {
  trireme::ActorOptions options;
  options.name = "reader." + std::to_string(where);
  options.placement = trireme::Placement::on(where);
  trireme::Actor<Reader> reader;
  if (trireme::this_rank() == where) reader = trireme::spawn_with<Reader>(options);
  MPI_Barrier(MPI_COMM_WORLD);
  if (!reader) reader = trireme::actor<Reader>(options.name);
  MPI_Barrier(MPI_COMM_WORLD);
  return reader;
}

}  // namespace

TEST_CASE("every rank goes on with its own program and may submit") {
  auto runtime = trireme::embed(MPI_COMM_WORLD);
  CHECK(runtime.rank() == static_cast<trireme::Rank>(self()));
  CHECK(runtime.size() == static_cast<std::uint32_t>(ranks()));
  CHECK(trireme::this_rank() == runtime.rank());
  for (trireme::Rank rank = 0; rank < runtime.size(); ++rank) {
    trireme::TaskOptions options;
    options.placement = trireme::Placement::on(rank);
    CHECK(trireme::get(trireme::submit_with<&where>(options)) == rank);
  }
}

TEST_CASE("a field is read in the memory where the solver of the same node wrote it") {
  auto runtime = trireme::embed(MPI_COMM_WORLD);
  const auto reader = reader_in(runtime.node_ranks().front());
  constexpr std::size_t kCells = 100'000;
  trireme::Array<double> field(kCells);
  auto cells = field.writable();
  std::iota(cells.begin(), cells.end(), static_cast<double>(self()));
  const auto seen = trireme::get(reader.call<&Reader::read>(trireme::put(field)));
  CHECK(seen.sum == std::accumulate(field.begin(), field.end(), 0.0));
  const auto mine = place_of(field.data());
  CHECK(mine.inode != 0);
  CHECK(seen.place == mine);
}

TEST_CASE("a field is read on rank 0, wherever it was written") {
  auto runtime = trireme::embed(MPI_COMM_WORLD);
  const auto reader = reader_in(0);
  trireme::Array<double> field(50'000);
  for (auto& cell : field.writable()) cell = 1 + self();
  CHECK(trireme::get(reader.call<&Reader::read>(trireme::put(field))).sum == 50'000.0 * (1 + self()));
}

TEST_CASE("ranks that come to the end early serve the others until the last is there") {
  auto runtime = trireme::embed(MPI_COMM_WORLD);
  const auto last = runtime.size() - 1;
  if (runtime.rank() == last) {
    for (trireme::Rank rank = 0; rank < runtime.size(); ++rank) {
      for (int turn = 0; turn < 20; ++turn) {
        trireme::TaskOptions options;
        options.placement = trireme::Placement::on(rank);
        CHECK(trireme::get(trireme::submit_with<&where>(options)) == rank);
      }
    }
  }
  runtime.finish();
  runtime.finish();
}

TEST_CASE("a moved handle ends the runtime once, and another can be embedded afterwards") {
  std::optional<trireme::Embedded> kept;
  {
    auto runtime = trireme::embed(MPI_COMM_WORLD);
    kept.emplace(std::move(runtime));
  }
  CHECK(trireme::get(trireme::submit<&where>()) < kept->size());
  CHECK_THROWS_AS(trireme::embed(MPI_COMM_WORLD), trireme::Exception);
  kept.reset();
  CHECK_THROWS_AS(trireme::this_rank(), trireme::Exception);
}

TEST_CASE("the program's own messages on the same communicator are left alone") {
  int incoming = -1, outgoing = self();
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Irecv(&incoming, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
  { auto runtime = trireme::embed(MPI_COMM_WORLD); }
  MPI_Send(&outgoing, 1, MPI_INT, (self() + 1) % ranks(), 3, MPI_COMM_WORLD);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  CHECK(incoming == (self() + ranks() - 1) % ranks());
}

TEST_CASE("a communicator of some ranks becomes a runtime of those") {
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, self() % 2, -self(), &half);
  int expected = 0, size = 0;
  MPI_Comm_rank(half, &expected);
  MPI_Comm_size(half, &size);
  {
    auto runtime = trireme::embed(half);
    CHECK(runtime.rank() == static_cast<trireme::Rank>(expected));
    CHECK(runtime.size() == static_cast<std::uint32_t>(size));
  }
  MPI_Comm_free(&half);
}

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  const int status = doctest::Context(argc, argv).run();
  MPI_Finalize();
  return status;
}
