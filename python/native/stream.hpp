#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/ids.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::python {

/// The values that one task yields, in the rank that submitted it: they are consumed where the task came from.
///
/// Values come with their index, so what a retried task yields again is dropped. The executing rank completes the task
/// only after all its values were accepted; so when `end` is ready nothing is on its way.
///
/// Threading: any thread.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  /// `limit`: values that may wait unread, 0: any number.
  explicit Stream(std::uint64_t limit) : limit_(limit) {}
  /// Once: `end` is the task's result.
  void watch_end(detail::CellRef end);

  /// The next value's cell, ready when it was yielded. Behind the last one: an error, stream_end or the task's own.
  detail::CellRef next();
  /// Nobody will ask for more.
  void abandon();
  /// `done(true)` once there is room for another; `done(false)`: nobody wants more. Maybe at once.
  void push(std::uint64_t index, detail::CellRef item, std::function<void(bool)> done);

 private:
  void ended();

  const std::uint64_t limit_;
  detail::CellRef end_;
  std::mutex mutex_;
  std::deque<detail::CellRef> items_;
  std::deque<detail::CellRef> promised_;
  std::uint64_t received_ = 0;
  std::deque<std::function<void(bool)>> held_;  // producers
  bool abandoned_ = false;
  bool ended_ = false;
};

/// The streams that are consumed in this process, by the index of their id. One per process.
/// Threading: any thread.
class StreamTable {
 public:
  static StreamTable& instance();
  std::uint64_t add(std::shared_ptr<Stream> stream);
  std::shared_ptr<Stream> find(std::uint64_t index);
  void remove(std::uint64_t index);

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Stream>> streams_;
  std::uint64_t next_ = 1;
};

/// The consumer's end; abandons the stream when it goes.
class StreamConsumer {
 public:
  StreamConsumer(std::shared_ptr<Stream> stream, std::uint64_t index) : stream_(std::move(stream)), index_(index) {}
  ~StreamConsumer() {
    stream_->abandon();
    StreamTable::instance().remove(index_);
  }
  StreamConsumer(const StreamConsumer&) = delete;
  StreamConsumer& operator=(const StreamConsumer&) = delete;
  detail::CellRef next() { return stream_->next(); }

 private:
  std::shared_ptr<Stream> stream_;
  std::uint64_t index_;
};

/// Hands a value to the stream, here or in another rank.
void push_to_stream(ObjectId stream, std::uint64_t index, detail::CellRef item, std::function<void(bool)> done);

/// Completes `into` with what `from` has or will have; a copy that was evicted is brought back.
void forward(const detail::CellRef& from, const detail::CellRef& into);

}  // namespace trireme::python
