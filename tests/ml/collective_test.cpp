// Every operation, element type and reduction against MPI, or against values computed here where MPI has no such type.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>

#include "tests/ml/mpi_group.hpp"

using namespace trireme;
using namespace trireme::ml;
using namespace trireme::ml::test;

namespace {

/// Small whole numbers, different on every member: sums and products of a few are exact in every type but int8.
template <class T>
std::vector<T> values(std::uint32_t member, std::size_t count, std::uint32_t seed = 0) {
  std::vector<T> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = static_cast<T>((i * 7 + member * 3 + seed + i / 251) % 4 + 1);
  return result;
}

template <class T>
MPI_Datatype mpi_type() {
  if constexpr (std::is_same_v<T, float>) return MPI_FLOAT;
  if constexpr (std::is_same_v<T, double>) return MPI_DOUBLE;
  if constexpr (std::is_same_v<T, std::int8_t>) return MPI_INT8_T;
  if constexpr (std::is_same_v<T, std::int16_t>) return MPI_INT16_T;
  if constexpr (std::is_same_v<T, std::int32_t>) return MPI_INT32_T;
  if constexpr (std::is_same_v<T, std::int64_t>) return MPI_INT64_T;
  if constexpr (std::is_same_v<T, std::uint8_t>) return MPI_UINT8_T;
  if constexpr (std::is_same_v<T, std::uint16_t>) return MPI_UINT16_T;
  if constexpr (std::is_same_v<T, std::uint32_t>) return MPI_UINT32_T;
  if constexpr (std::is_same_v<T, std::uint64_t>) return MPI_UINT64_T;
}

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::product:
      return MPI_PROD;
    case ReduceOp::min:
      return MPI_MIN;
    case ReduceOp::max:
      return MPI_MAX;
    default:
      return MPI_SUM;
  }
}

template <class T>
std::vector<T> mpi_all_reduce(std::vector<T> data, ReduceOp op) {
  MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), mpi_type<T>(), mpi_op(op), MPI_COMM_WORLD);
  if (op == ReduceOp::mean)
    for (auto& x : data) x = static_cast<T>(x / static_cast<T>(world_size()));
  return data;
}

/// Sizes around every change of algorithm, odd ones, none, and 64 MiB where the ranks have cores of their own.
std::vector<std::size_t> sizes(std::size_t element, std::size_t bytes_max) {
  std::vector<std::size_t> counts;
  for (const std::size_t bytes : {0UL, 8UL, 48UL, 56UL, 1000UL, 8200UL, 16400UL, 33000UL, 70000UL, 262144UL, 300008UL,
                                  1100008UL, 2500000UL, 9000008UL, 67108864UL, 67109000UL})
    if (bytes <= bytes_max) counts.push_back(bytes / element);
  counts.push_back(1);
  counts.push_back(world_size() - 1);
  return counts;
}

/// More ranks than cores take turns: fewer and smaller sizes say the same.
std::size_t large() { return world_size() <= 2 ? 68U << 20U : world_size() <= 4 ? 10U << 20U : 1200000; }
std::size_t middle() { return world_size() <= 4 ? 300008 : 33000; }

std::uint16_t to_bfloat(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
float from_bfloat(std::uint16_t value) {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float result = 0;
  std::memcpy(&result, &bits, 4);
  return result;
}
std::uint16_t to_half(float value) {  // normal numbers only
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | (((bits >> 23 & 0xFF) - 112) << 10) | (bits >> 13 & 0x3FF));
}

}  // namespace

TEST_CASE_TEMPLATE("all_reduce gives what MPI_Allreduce gives", T, float, double, std::int8_t, std::int16_t,
                   std::int32_t, std::int64_t, std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t) {
  auto group = world_group();
  for (const auto op : {ReduceOp::sum, ReduceOp::product, ReduceOp::min, ReduceOp::max, ReduceOp::mean}) {
    // Every size once, for the commonest type and operation; the others at the sizes where algorithms change.
    const bool all = std::is_same_v<T, float> && op == ReduceOp::sum;
    for (const auto count : sizes(sizeof(T), all ? large() : middle())) {
      CAPTURE(to_string(op));
      CAPTURE(count);
      auto data = values<T>(world_rank(), count);
      const auto expected = mpi_all_reduce(data, op);
      group.all_reduce(std::span(data), op);
      CHECK((data == expected));
    }
  }
}

TEST_CASE("float16 and bfloat16 are combined in float32 and rounded once") {
  auto group = world_group({.name = "narrow", .fixed_order = true});
  const auto members = static_cast<float>(world_size());
  for (const auto type : {DType::f16, DType::bf16}) {
    const auto encode = type == DType::f16 ? to_half : to_bfloat;
    for (const std::size_t count : {1UL, 9UL, 24UL, 25UL, 5001UL, 150001UL}) {
      CAPTURE(to_string(type));
      CAPTURE(count);
      std::vector<std::uint16_t> data(count), mean(count);
      std::vector<std::uint16_t> expected(count), expected_mean(count);
      for (std::size_t i = 0; i < count; ++i) {
        data[i] = mean[i] = encode(static_cast<float>(i % 8 + 1) * static_cast<float>(world_rank() + 1));
        const float sum = static_cast<float>(i % 8 + 1) * members * (members + 1) / 2;
        expected[i] = encode(sum);
        expected_mean[i] = encode(sum / members);
      }
      group.all_reduce({data.data(), count, type});
      group.all_reduce({mean.data(), count, type}, ReduceOp::mean);
      CHECK((data == expected));
      CHECK((mean == expected_mean));
    }
  }
  // 256 + 1 is no bfloat16; added one at a time and rounded each time the ones would be lost.
  if (world_size() >= 3) {
    std::uint16_t value = to_bfloat(world_rank() == 0 ? 256.0F : 1.0F);
    group.all_reduce({&value, 1, DType::bf16});
    CHECK(from_bfloat(value) == from_bfloat(to_bfloat(256.0F + members - 1)));
  }
}

TEST_CASE("reduce changes the root's buffer only") {
  auto group = world_group();
  for (const auto count : sizes(8, middle())) {
    for (std::uint32_t root = 0; root < group.size(); ++root) {
      CAPTURE(count);
      CAPTURE(root);
      auto data = values<double>(world_rank(), count);
      const auto before = data;
      const auto expected = mpi_all_reduce(data, ReduceOp::max);
      group.reduce(std::span(data), root, ReduceOp::max);
      CHECK((data == (root == world_rank() ? expected : before)));
    }
  }
}

TEST_CASE("broadcast brings the root's bytes to all") {
  auto group = world_group();
  for (const auto count : sizes(1, large())) {
    for (std::uint32_t root = 0; root < (count > middle() ? 1 : group.size()); ++root) {
      CAPTURE(count);
      CAPTURE(root);
      auto data = values<std::uint8_t>(world_rank(), count, world_rank() == root ? 5 : 0);
      group.broadcast(std::span(data), root);
      CHECK((data == values<std::uint8_t>(root, count, 5)));
    }
  }
}

TEST_CASE("all_gather, also when each part lies in its place") {
  auto group = world_group();
  for (const auto count : sizes(4, large() / 4)) {
    CAPTURE(count);
    const auto mine = values<std::int32_t>(world_rank(), count);
    std::vector<std::int32_t> all(count * group.size(), -1);
    std::vector<std::int32_t> expected(all.size());
    MPI_Allgather(mine.data(), static_cast<int>(count), MPI_INT32_T, expected.data(), static_cast<int>(count),
                  MPI_INT32_T, MPI_COMM_WORLD);
    group.all_gather(std::span(mine), std::span(all));
    CHECK((all == expected));
    std::fill(all.begin(), all.end(), -1);
    const auto part = std::span(all).subspan(count * world_rank(), count);
    std::copy(mine.begin(), mine.end(), part.begin());
    group.all_gather(part, std::span(all));
    CHECK((all == expected));
  }
}

TEST_CASE("reduce_scatter, also into its own part") {
  auto group = world_group();
  for (const auto op : {ReduceOp::sum, ReduceOp::mean}) {
    for (const auto count : sizes(8, large() / 4)) {
      CAPTURE(count);
      auto all = values<double>(world_rank(), count * group.size());
      std::vector<double> mine(count, -1);
      std::vector<double> expected(count);
      MPI_Reduce_scatter_block(all.data(), expected.data(), static_cast<int>(count), MPI_DOUBLE, MPI_SUM,
                               MPI_COMM_WORLD);
      if (op == ReduceOp::mean)
        for (auto& x : expected) x /= world_size();
      group.reduce_scatter(std::span(all), std::span(mine), op);
      CHECK((mine == expected));
      const auto part = std::span(all).subspan(count * world_rank(), count);
      group.reduce_scatter(std::span(all), part, op);
      CHECK(std::equal(part.begin(), part.end(), expected.begin()));
    }
  }
}

TEST_CASE("all_to_all") {
  auto group = world_group();
  for (const auto count : sizes(2, large() / 4)) {
    CAPTURE(count);
    const auto from = values<std::int16_t>(world_rank(), count * group.size());
    std::vector<std::int16_t> to(from.size(), -1);
    std::vector<std::int16_t> expected(from.size());
    MPI_Alltoall(from.data(), static_cast<int>(count), MPI_INT16_T, expected.data(), static_cast<int>(count),
                 MPI_INT16_T, MPI_COMM_WORLD);
    group.all_to_all(std::span(from), std::span(to));
    CHECK((to == expected));
  }
}

TEST_CASE("messages pair up by tag, in order, whatever came first") {
  auto group = world_group();
  if (group.size() == 1) return;
  const std::uint32_t next = (group.rank() + 1) % group.size();
  const std::uint32_t before = (group.rank() + group.size() - 1) % group.size();
  for (const std::size_t count : {0UL, 1UL, 1000UL, 20000UL, 300001UL}) {
    CAPTURE(count);
    const auto first = values<float>(group.rank(), count, 1);
    const auto second = values<float>(group.rank(), count, 2);
    const auto other = values<float>(group.rank(), count, 3);
    std::vector<Work> sent;
    sent.push_back(group.start_send(std::span(first), next, 7));
    sent.push_back(group.start_send(std::span(second), next, 7));
    sent.push_back(group.start_send(std::span(other), next, 8));
    std::vector<float> a(count), b(count), c(count);
    group.recv(std::span(c), before, 8);
    group.recv(std::span(a), before, 7);
    group.recv(std::span(b), before, 7);
    for (auto& work : sent) work.wait();
    CHECK((a == values<float>(before, count, 1)));
    CHECK((b == values<float>(before, count, 2)));
    CHECK((c == values<float>(before, count, 3)));
  }
}

TEST_CASE("a receive under way does not hold up collectives") {
  auto group = world_group();
  if (group.size() == 1) return;
  std::vector<std::int32_t> got(100000, 0);
  const auto sent = values<std::int32_t>(group.size() - 1, got.size());
  Work receive;
  if (group.rank() == 0) receive = group.start_recv(std::span(got), group.size() - 1);
  std::vector<double> data(10, 1.0);
  for (int round = 0; round < 20; ++round) group.all_reduce(std::span(data), ReduceOp::max);
  if (group.rank() == 0) CHECK_FALSE(receive.test());
  group.barrier();
  if (group.rank() == group.size() - 1) group.send(std::span(sent), 0);
  if (group.rank() == 0) {
    receive.wait();
    CHECK((got == sent));
  }
}

TEST_CASE("several operations under way end in the order of their start, with the right results") {
  auto group = world_group();
  constexpr std::size_t kOperations = 12;
  std::vector<std::vector<float>> data;
  std::vector<std::vector<float>> expected;
  for (std::size_t i = 0; i < kOperations; ++i) {
    data.push_back(values<float>(group.rank(), 1 + i * i * 700, static_cast<std::uint32_t>(i)));
    expected.push_back(mpi_all_reduce(data.back(), ReduceOp::sum));
  }
  std::vector<Work> works;
  for (auto& one : data) works.push_back(group.start_all_reduce(std::span(one)));
  float direct = 1;  // a blocking one behind them
  group.all_reduce(std::span(&direct, 1));
  CHECK(direct == static_cast<float>(group.size()));
  for (std::size_t i = 0; i < kOperations; ++i) {
    CHECK(works[i].test());  // in order: all were before the blocking one
    works[i].wait();
    CHECK((data[i] == expected[i]));
  }
}

TEST_CASE("members may wait on the spot or start the same operation and go on") {
  auto group = world_group();
  for (std::uint32_t round = 0; round < 40; ++round) {
    CAPTURE(round);
    auto data = values<double>(group.rank(), 1 + round * 7, round);  // up to 2 KiB
    const auto expected = mpi_all_reduce(data, ReduceOp::sum);
    if ((group.rank() + round) % 2 == 0) {
      group.barrier();
      group.all_reduce(std::span(data));
    } else {
      Work barrier = group.start_barrier();
      Work reduction = group.start_all_reduce(std::span(data));
      barrier.wait();
      reduction.wait();
    }
    CHECK((data == expected));
  }
}

TEST_CASE("messages of other threads go on while one thread waits for an operation on the spot") {
  auto group = world_group();
  if (group.size() == 1) return;
  for (int round = 0; round < 20; ++round) {
    std::int32_t token = round;
    if (group.rank() == 0) {
      std::thread other([&] { group.send(std::span<const std::int32_t>(&token, 1), 1); });
      group.barrier();
      other.join();
    } else {
      if (group.rank() == 1) {
        std::int32_t got = -1;
        group.recv(std::span(&got, 1), 0);
        CHECK(got == round);
      }
      group.barrier();
    }
  }
}

TEST_CASE("a barrier holds everybody until the last has come") {
  auto group = world_group();
  MPI_Win window = MPI_WIN_NULL;
  std::int32_t* count = nullptr;
  MPI_Win_allocate(sizeof *count, sizeof *count, MPI_INFO_NULL, MPI_COMM_WORLD, &count, &window);
  *count = 0;
  MPI_Barrier(MPI_COMM_WORLD);
  const std::int32_t one = 1;
  for (std::int32_t round = 1; round <= 20; ++round) {
    std::int32_t seen = 0;
    MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, window);
    MPI_Accumulate(&one, 1, MPI_INT32_T, 0, 0, 1, MPI_INT32_T, MPI_SUM, window);
    MPI_Win_unlock(0, window);
    group.barrier();
    MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, window);
    MPI_Fetch_and_op(&one, &seen, MPI_INT32_T, 0, 0, MPI_NO_OP, window);
    MPI_Win_unlock(0, window);
    CHECK(seen >= round * static_cast<std::int32_t>(group.size()));
  }
  MPI_Win_free(&window);
}

TEST_CASE("with fixed_order the bits are those of combining in the order of ranks") {
  auto group = world_group({.name = "fixed", .fixed_order = true});
  for (const std::size_t count : {1UL, 11UL, 12UL, 13UL, 1999UL, 30011UL, 200003UL}) {
    CAPTURE(count);
    // Values of very different sizes, so that another order gives other bits.
    std::vector<std::vector<float>> all;
    for (std::uint32_t member = 0; member < group.size(); ++member) {
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i)
        data[i] = std::ldexp(static_cast<float>((i * 2654435761U + member * 40503U) % 100003U) / 7.0F,
                             static_cast<int>((i + member * 5) % 17) - 8);
      all.push_back(std::move(data));
    }
    std::vector<float> expected = all[0];
    for (std::uint32_t member = 1; member < group.size(); ++member)
      for (std::size_t i = 0; i < count; ++i) expected[i] = expected[i] + all[member][i];
    auto data = all[group.rank()];
    group.all_reduce(std::span(data));
    CHECK(std::memcmp(data.data(), expected.data(), count * sizeof(float)) == 0);
    auto reduced = all[group.rank()];
    group.reduce(std::span(reduced), group.size() - 1);
    if (group.rank() == group.size() - 1)
      CHECK(std::memcmp(reduced.data(), expected.data(), count * sizeof(float)) == 0);
  }
}

TEST_CASE("groups of some ranks in another order live beside one another") {
  auto whole = world_group({.name = "whole"});
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, static_cast<int>(world_rank() % 2), -static_cast<int>(world_rank()), &half);
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(half, &rank);
  MPI_Comm_size(half, &size);
  Communicator part(static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(size), mpi_exchange(half),
                    {.name = "part"});
  for (int round = 0; round < 10; ++round) {
    std::int64_t one = 1;
    std::int64_t two = 1;
    Work work = whole.start_all_reduce(std::span(&one, 1));
    part.all_reduce(std::span(&two, 1));
    work.wait();
    CHECK(one == whole.size());
    CHECK(two == size);
  }
  MPI_Comm_free(&half);
}

TEST_CASE("what makes no sense is refused before anything is sent") {
  auto group = world_group();
  std::vector<float> data(7);
  const auto code = [&](auto call) {
    try {
      call();
    } catch (const CollectiveError& error) {
      CHECK(std::string(error.what()).size() > 20);
      return error.code();
    }
    return Errc::ok;
  };
  CHECK(code([&] { group.broadcast(std::span(data), group.size()); }) == Errc::invalid_argument);
  CHECK(code([&] { group.send(std::span(data), group.rank()); }) == Errc::invalid_argument);
  CHECK(code([&] { group.all_reduce({nullptr, 3, DType::f32}); }) == Errc::invalid_argument);
  CHECK(code([&] { group.all_gather(std::span(data), std::span(data).first(6 * (group.size() > 1))); }) ==
        Errc::invalid_argument);
  CHECK(code([&] { Communicator(3, 2, mpi_exchange(MPI_COMM_WORLD)); }) == Errc::invalid_argument);
  group.barrier();  // and it is still of use
}

TEST_CASE("members that call different operations are told so") {
  auto group = world_group({.name = "unequal", .timeout_ns = 20'000'000'000});
  if (group.size() == 1) return;
  std::vector<float> data(group.rank() == 0 ? 3 : 4);
  Errc code = Errc::ok;
  try {
    group.all_reduce(std::span(data));
  } catch (const CollectiveError& error) {
    code = error.code();
  }
  CHECK(code == Errc::invalid_argument);
  CHECK_FALSE(group.broken().empty());
}
