#include "training.hpp"

#include <array>
#include <stdexcept>
#include <utility>

namespace heat {

namespace ml = trireme::ml;

namespace {

std::shared_ptr<ml::Communicator>& group_of_process() {
  static std::shared_ptr<ml::Communicator> group;
  return group;
}

/// How the members find each other: what each has to say, gathered by MPI.
trireme::Result<std::vector<std::vector<std::byte>>> gather(MPI_Comm comm, std::span<const std::byte> mine) {
  int ranks = 0;
  MPI_Comm_size(comm, &ranks);
  const int bytes = static_cast<int>(mine.size());
  std::vector<int> counts(static_cast<std::size_t>(ranks)), starts(counts.size());
  MPI_Allgather(&bytes, 1, MPI_INT, counts.data(), 1, MPI_INT, comm);
  for (std::size_t r = 1; r < counts.size(); ++r) starts[r] = starts[r - 1] + counts[r - 1];
  std::vector<std::byte> all(static_cast<std::size_t>(starts.back() + counts.back()));
  MPI_Allgatherv(mine.data(), bytes, MPI_BYTE, all.data(), counts.data(), starts.data(), MPI_BYTE, comm);
  std::vector<std::vector<std::byte>> parts;
  for (std::size_t r = 0; r < counts.size(); ++r)
    parts.emplace_back(all.begin() + starts[r], all.begin() + starts[r] + counts[r]);
  return parts;
}

}  // namespace

void make_training_group(MPI_Comm comm) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  ml::CommunicatorOptions options;
  options.name = "surrogate";
  options.fixed_order = true;
  group_of_process() = std::make_shared<ml::Communicator>(
      static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(ranks),
      [comm](std::span<const std::byte> mine, std::int64_t) { return gather(comm, mine); }, options);
}

SurrogateTrainer::SurrogateTrainer(std::uint64_t spacing)
    : group_(std::exchange(group_of_process(), nullptr)),
      surrogate_(Patch{spacing}, group_ ? group_->rank() : 0, averaging()) {
  if (!group_) throw std::logic_error("make_training_group() was not called in the rank of the trainer");
}

Averaging SurrogateTrainer::averaging() {
  return {[this](std::span<float> part) { under_way_.push_back(group_->start_all_reduce(part, ml::ReduceOp::mean)); },
          [this] {
            for (auto& work : under_way_) work.wait();
            under_way_.clear();
          }};
}

Mistakes SurrogateTrainer::learn(std::uint64_t columns, const trireme::Array<double>& block) {
  Mistakes mistakes;
  if (!std::exchange(first_, false)) {
    mistakes = surrogate_.test(columns, before_.view(), block.view());
    std::array<double, 3> sums{mistakes.squares, mistakes.unchanged, mistakes.cells};
    group_->all_reduce(std::span<double>(sums));
    mistakes = {sums[0], sums[1], sums[2]};
    surrogate_.learn(columns, before_.view(), block.view());
  }
  before_ = block;
  return mistakes;
}

}  // namespace heat
