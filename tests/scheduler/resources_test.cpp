#include <doctest/doctest.h>

#include <map>
#include <string>

#include "base/rng.hpp"
#include "scheduler/resources.hpp"
#include "scheduler/resources_pool.hpp"

using namespace trireme;
using namespace trireme::scheduler;

namespace {

Resources parsed(std::string_view text) {
  auto result = Resources::parse(text);
  REQUIRE_MESSAGE(result.ok(), text);
  return *result;
}

Bytes encoded(const Resources& resources) {
  Bytes bytes;
  Writer out(bytes);
  resources.encode(out);
  return bytes;
}

constexpr BundleKey key(std::uint32_t index) { return {{3, 9}, index}; }

}  // namespace

TEST_CASE("text is parsed to exact amounts and written back") {
  const auto r = parsed("CPU=2, GPU=0.5,memory=4GiB,licence=1.25");
  CHECK(r.cpu_units() == 20'000);
  CHECK(r.gpu_units() == 5'000);
  CHECK(r.memory_bytes() == std::int64_t{4} << 30);
  CHECK(r.custom_units("licence") == 12'500);
  CHECK(r.text() == "{CPU: 2, GPU: 0.5, memory: 4 GiB, licence: 1.25}");
  CHECK(parsed("memory=2KB").memory_bytes() == 2000);
  CHECK(parsed("").empty());
  CHECK(parsed("CPU=1").is_one_cpu());
  CHECK(!parsed("CPU=1,x=1").is_one_cpu());
  CHECK(Resources{}.text() == "{}");
}

TEST_CASE("text that breaks a rule is refused with the rule") {
  for (const auto* text : {"CPU", "CPU=", "CPU=x", "CPU=-1", "CPU=1GiB", "=1", "CPU=1e30", "CPU=nan", "CPU=inf",
                           "GPU=1.5", "CPU=0.00001", "memory=1Q"}) {
    CAPTURE(text);
    const auto result = Resources::parse(text);
    REQUIRE(!result.ok());
    CHECK(result.error().code == Errc::invalid_argument);
    CHECK(!result.error().message.empty());
  }
}

TEST_CASE("ten tenths are one") {
  Resources sum;
  for (int i = 0; i < 10; ++i) sum += parsed("CPU=0.1,x=0.1");
  CHECK(sum == parsed("CPU=1,x=1"));
  for (int i = 0; i < 10; ++i) sum -= parsed("CPU=0.1,x=0.1");
  CHECK(sum.empty());
}

TEST_CASE("fits compares every name, and what is not asked for does not matter") {
  const auto have = parsed("CPU=4,GPU=1,a=2");
  CHECK(parsed("CPU=4,GPU=1,a=2").fits(have));
  CHECK(parsed("a=1").fits(have));
  CHECK(!parsed("CPU=4.0001").fits(have));
  CHECK(!parsed("b=0.1").fits(have));
  auto negative = have;
  negative -= parsed("CPU=5");
  CHECK(parsed("a=1").fits(negative));
  CHECK(!parsed("CPU=0.1").fits(negative));
  CHECK(parsed("a=1,CPU=1").overlaps(parsed("a=3")));
  CHECK(!parsed("CPU=1").overlaps(parsed("a=3")));
}

TEST_CASE("what was encoded is decoded, and no prefix of it is") {
  auto r = parsed("CPU=2,GPU=0.5,memory=4GiB,b=1,a=7");
  r -= parsed("CPU=3");
  const auto bytes = encoded(r);
  Reader in(bytes);
  CHECK(Resources::decode(in) == r);
  CHECK(in.done());
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    Reader part(BytesView(bytes).first(cut));
    CHECK(Resources::decode(part).empty());
    CHECK(!part.ok());
  }
}

TEST_CASE("encodings that are not canonical are refused") {
  const auto refused = [](auto write) {
    Bytes bytes;
    Writer out(bytes);
    out.varint(0);
    out.varint(0);
    out.varint(0);
    write(out);
    Reader in(bytes);
    (void)Resources::decode(in);
    return !in.ok();
  };
  const auto entry = [](Writer& out, std::string_view name, std::uint64_t amount) {
    out.text(name);
    out.varint(amount);
  };
  CHECK(refused([&](Writer& out) {
    out.varint(2);
    entry(out, "b", 2);
    entry(out, "a", 2);
  }));
  CHECK(refused([&](Writer& out) {
    out.varint(2);
    entry(out, "a", 2);
    entry(out, "a", 2);
  }));
  CHECK(refused([&](Writer& out) {
    out.varint(1);
    entry(out, "a", 0);
  }));
  CHECK(refused([&](Writer& out) {
    out.varint(1);
    entry(out, "", 2);
  }));
  CHECK(refused([&](Writer& out) {
    out.varint(1);
    entry(out, "a", UINT64_MAX);
  }));
  CHECK(refused([&](Writer& out) {
    out.varint(1);
    entry(out, std::string(200, 'x'), 2);
  }));
  CHECK(refused([&](Writer& out) { out.varint(1'000'000'000); }));
  CHECK(!refused([&](Writer& out) {
    out.varint(2);
    entry(out, "a", 2);
    entry(out, "b", 2);
  }));
}

TEST_CASE("whole GPUs are whole devices, and fractions share the fullest that has room") {
  ResourcePool pool(parsed("GPU=3"));
  REQUIRE(pool.try_acquire(1, parsed("GPU=0.5")));
  REQUIRE(pool.try_acquire(2, parsed("GPU=0.25")));
  CHECK(pool.gpus_of(1)[0].index == pool.gpus_of(2)[0].index);
  CHECK(!pool.could_acquire(parsed("GPU=3")));
  REQUIRE(pool.try_acquire(3, parsed("GPU=2")));
  CHECK(pool.gpus_of(3).size() == 2);
  REQUIRE(pool.try_acquire(4, parsed("GPU=0.25")));
  pool.release(3);
  // 2 free in sum with the two fractions, but only when they lie on whole devices.
  REQUIRE(pool.try_acquire(5, parsed("GPU=0.6")));
  REQUIRE(pool.try_acquire(6, parsed("GPU=0.6")));
  pool.release(1);
  CHECK(pool.available().gpu_units() == 13'000);
  CHECK(!pool.could_acquire(parsed("GPU=1")));
}

TEST_CASE("holders withhold threads for the CPUs beyond their own") {
  ResourcePool pool(parsed("CPU=8"));
  REQUIRE(pool.try_acquire(1, parsed("CPU=4")));
  CHECK(pool.threads_withheld() == 3);
  REQUIRE(pool.try_acquire(2, parsed("CPU=0.5")));
  CHECK(pool.threads_withheld() == 3);
  REQUIRE(pool.try_acquire(3, parsed("CPU=2"), {}, false));
  CHECK(pool.threads_withheld() == 5);
  pool.lend_cpu(1);
  CHECK(pool.threads_withheld() == 2);
  REQUIRE(pool.try_acquire(4, parsed("CPU=5")));
  pool.reclaim_cpu(1);
  CHECK(pool.available().cpu_units() < 0);
  pool.lend_cpu(1);
  for (const HolderId holder : {1, 2, 3, 4}) pool.release(holder);
  CHECK(pool.available() == pool.total());
  CHECK(pool.threads_withheld() == 0);
}

TEST_CASE("a cancelled reservation comes back with its holders' release") {
  ResourcePool pool(parsed("CPU=4,GPU=2"));
  REQUIRE(pool.try_reserve(key(0), parsed("CPU=2,GPU=1")));
  CHECK(!pool.try_reserve(key(0), parsed("CPU=1")));
  CHECK(!pool.try_reserve(key(1), parsed("CPU=3")));
  CHECK(!pool.try_acquire(1, parsed("CPU=1"), key(7)));
  REQUIRE(pool.try_acquire(1, parsed("CPU=1,GPU=0.5"), key(0)));
  CHECK(!pool.could_acquire(parsed("GPU=0.6"), key(0)));
  CHECK(pool.could_acquire(parsed("GPU=0.5"), key(0)));
  CHECK(pool.could_ever_acquire(parsed("GPU=1"), key(0)));
  CHECK(pool.holders_of(key(0)) == std::vector<HolderId>{1});
  REQUIRE(pool.cancel_reservation(key(0)));
  CHECK(!pool.cancel_reservation(key(0)));
  CHECK(pool.available().cpu_units() == 30'000);
  CHECK(pool.available().gpu_units() == 15'000);
  pool.release(1);
  CHECK(pool.available() == pool.total());
  CHECK(pool.could_acquire(parsed("GPU=2")));
}

TEST_CASE("whatever is acquired, lent, reserved and cancelled, all comes back in the end") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    ResourcePool pool(parsed("CPU=8,GPU=4,memory=1000,x=3"));
    std::map<HolderId, bool> holders;  // lent?
    std::vector<std::uint32_t> bundles;
    HolderId next = 1;
    const auto random_demand = [&] {
      static const char* const demands[] = {"CPU=1.5", "GPU=0.3", "GPU=1",       "GPU=2,CPU=1", "memory=100",
                                            "x=1",     "CPU=3",   "GPU=0.5,x=1", "CPU=0.5"};
      return parsed(demands[rng.below(std::size(demands))]);
    };
    for (int i = 0; i < 300; ++i) {
      switch (rng.below(6)) {
        case 0:
        case 1: {
          std::optional<BundleKey> bundle;
          if (!bundles.empty() && rng.chance(0.5)) bundle = key(bundles[rng.below(bundles.size())]);
          const auto demand = random_demand();
          const bool could = pool.could_acquire(demand, bundle);
          CHECK(pool.try_acquire(next, demand, bundle) == could);
          if (could) {
            CHECK(pool.could_ever_acquire(demand, bundle));
            std::int64_t units = 0;
            for (const auto& share : pool.gpus_of(next)) units += share.units;
            CHECK(units == demand.gpu_units());
            holders[next] = false;
          }
          ++next;
          break;
        }
        case 2: {
          if (holders.empty()) break;
          auto at = std::next(holders.begin(), static_cast<std::ptrdiff_t>(rng.below(holders.size())));
          pool.release(at->first);
          holders.erase(at);
          break;
        }
        case 3: {
          if (holders.empty()) break;
          auto at = std::next(holders.begin(), static_cast<std::ptrdiff_t>(rng.below(holders.size())));
          at->second ? pool.reclaim_cpu(at->first) : pool.lend_cpu(at->first);
          at->second = !at->second;
          break;
        }
        case 4: {
          const auto index = static_cast<std::uint32_t>(rng.below(5));
          if (pool.try_reserve(key(index), random_demand())) bundles.push_back(index);
          break;
        }
        case 5: {
          if (bundles.empty()) break;
          CHECK(pool.cancel_reservation(key(bundles.back())));
          bundles.pop_back();
          break;
        }
      }
    }
    for (const auto index : bundles) CHECK(pool.cancel_reservation(key(index)));
    for (const auto& entry : holders) pool.release(entry.first);
    CHECK(pool.available() == pool.total());
    CHECK(pool.could_acquire(pool.total()));
    CHECK(pool.threads_withheld() == 0);
  }
}
