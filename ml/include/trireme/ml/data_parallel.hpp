#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "trireme/ml/communicator.hpp"

namespace trireme::ml {

struct DataParallelOptions {
  /// Gradients travel together up to this size: large enough to be moved well, small enough that the first leave early.
  std::size_t bucket_bytes = 1U << 20U;
};

/// Keeps the parameters of all members alike, and averages their gradients while the backward pass goes on.
///
///     DataParallel parallel(group, {weights1, bias1, weights2, bias2});   // all start from member 0's
///     for (...) {
///       // backward pass, last layer first; each gradient computed in place
///       compute(parallel.gradient(3)); parallel.ready(3);  ...
///       parallel.wait();                                                  // parallel.gradient(i) is the mean now
///     }
///
/// Gradients lie in buckets, from the last parameter to the first, since that is how a backward pass makes them. A full
/// bucket is all-reduced at once by the group's helper thread. Buckets leave in one order on every member, whatever the
/// order of the calls. A group of one member sends nothing.
///
/// Threading: one thread. Errors: throws CollectiveError; invalid_argument for a gradient handed in twice or missing,
/// and what the all-reduce throws. Lifetime: within the group's and the parameters'.
class DataParallel {
 public:
  /// `parameters`: floating point, in the order of the forward pass, alike on all members. Collective.
  DataParallel(Communicator& group, std::vector<Buffer> parameters, DataParallelOptions options = {});
  ~DataParallel();  ///< waits for what is under way
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  /// Overwrites the parameters with member 0's. Collective.
  void broadcast();

  /// Where the gradient of a parameter lies: computed here before ready(), the mean after wait().
  Buffer gradient(std::size_t parameter) const;
  /// The gradient is complete. Once each between two wait().
  void ready(std::size_t parameter);
  /// The same for one computed elsewhere, which is copied.
  void ready(std::size_t parameter, ConstBuffer gradient);
  /// Returns when all gradients are averaged.
  void wait();

  bool is_ready(std::size_t parameter) const;  ///< handed in since the last wait()
  /// Handed in since the last wait(), and gradient() is the mean already.
  bool is_averaged(std::size_t parameter) const;
  /// The group still reads and writes buckets, so that the destructor would wait.
  bool under_way() const;

  std::size_t buckets() const { return buckets_.size(); }
  std::size_t parameters() const { return places_.size(); }

 private:
  struct Bucket {
    std::unique_ptr<std::byte[]> data;
    std::size_t count = 0;
    DType type = DType::f32;
    std::size_t members = 0;
    std::size_t missing = 0;
    Work work;
  };
  struct Place {
    std::size_t bucket = 0;
    std::size_t at = 0;  ///< elements from the bucket's start
    bool ready = false;
  };
  const Place& place(std::size_t parameter) const;
  void start_full();

  Communicator& group_;
  const std::vector<Buffer> parameters_;
  std::vector<Bucket> buckets_;
  std::vector<Place> places_;
  std::size_t started_ = 0;
};

}  // namespace trireme::ml
