#include "python/native/stream.hpp"

#include <utility>

#include "core/context.hpp"
#include "core/current.hpp"
#include "core/rank_core.hpp"
#include "python/native/control.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

detail::ErrorInfo stream_end() {
  detail::ErrorInfo error;
  error.code = Errc::stream_end;
  error.message = "the task yielded no more values";
  return error;
}

void fill(const CellRef& from, const CellRef& into) {
  if (from->form() == detail::CellForm::error) return into->complete_error(from->error());
  if (from->form() == detail::CellForm::typed) return into->complete(from->ops()->encode(from.get()));
  detail::Value value;
  const auto& context = core::current().context();
  const bool held = detail::try_pinned(from.get(), value);
  if (held && (!value.buffer || value.buffer.rank == context.self)) return into->complete(std::move(value));
  push_work(*context.host, [from, into] {
    try {
      auto brought = detail::pinned(from.get());
      // Whoever gets `into` looks for its value in this rank.
      if (brought.buffer) brought.buffer = detail::to_own_arena(brought.buffer);
      into->complete(std::move(brought));
    } catch (const Exception& lost) {
      into->complete_error(lost.info());
    }
  });
}

}  // namespace

void forward(const CellRef& from, const CellRef& into) {
  when_ready(from, [from, into] { fill(from, into); });
}

void Stream::watch_end(CellRef end) {
  {
    const std::lock_guard lock(mutex_);
    if (abandoned_) return;
    end_ = end;
  }
  when_ready(end, [self = shared_from_this()] { self->ended(); });
}

void Stream::ended() {
  std::deque<CellRef> left;
  std::deque<std::function<void(bool)>> held;
  CellRef end;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    left.swap(promised_);
    held.swap(held_);
    end = end_;
  }
  for (auto& done : held) done(false);
  if (!end) return;
  for (auto& cell : left) cell->complete_error(end->form() == detail::CellForm::error ? end->error() : stream_end());
}

CellRef Stream::next() {
  std::function<void(bool)> room;
  CellRef item;
  CellRef end;
  {
    const std::lock_guard lock(mutex_);
    if (!items_.empty()) {
      item = std::move(items_.front());
      items_.pop_front();
    } else {
      item = detail::make_plain_cell();
      if (ended_)
        end = end_;
      else
        promised_.push_back(item);
    }
    // One value less waits: one producer may go on.
    if (!held_.empty() && items_.size() < limit_) {
      room = std::move(held_.front());
      held_.pop_front();
    }
  }
  if (end) item->complete_error(end->form() == detail::CellForm::error ? end->error() : stream_end());
  if (room) room(true);
  return item;
}

void Stream::abandon() {
  std::deque<std::function<void(bool)>> held;
  std::deque<CellRef> items;
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    held.swap(held_);
    items.swap(items_);
    end_ = {};  // the task's block may hold what leads back here
  }
  for (auto& done : held) done(false);
}

void Stream::push(std::uint64_t index, CellRef item, std::function<void(bool)> done) {
  CellRef promise;
  bool now = true;
  bool wanted = true;
  {
    const std::lock_guard lock(mutex_);
    if (abandoned_) {
      wanted = false;
    } else if (index >= received_) {
      // Values of one task arrive in order; one that is missing was lost with its rank and comes again.
      received_ = index + 1;
      if (!promised_.empty()) {
        promise = std::move(promised_.front());
        promised_.pop_front();
      } else {
        items_.push_back(item);
      }
      if (limit_ != 0 && items_.size() >= limit_) {
        now = false;
        held_.push_back(std::move(done));
      }
    }
  }
  if (promise) forward(item, promise);
  if (now) done(wanted);
}

StreamTable& StreamTable::instance() {
  static StreamTable table;
  return table;
}

std::uint64_t StreamTable::add(std::shared_ptr<Stream> stream) {
  const std::lock_guard lock(mutex_);
  streams_[next_] = std::move(stream);
  return next_++;
}

std::shared_ptr<Stream> StreamTable::find(std::uint64_t index) {
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(index);
  return at == streams_.end() ? nullptr : at->second;
}

void StreamTable::remove(std::uint64_t index) {
  std::shared_ptr<Stream> gone;
  const std::lock_guard lock(mutex_);
  const auto at = streams_.find(index);
  if (at == streams_.end()) return;
  gone = std::move(at->second);
  streams_.erase(at);
}

void push_to_stream(ObjectId stream, std::uint64_t index, CellRef item, std::function<void(bool)> done) {
  auto& core = core::current();
  if (stream.owner == core.context().self) {
    if (const auto found = StreamTable::instance().find(stream.index))
      return found->push(index, std::move(item), std::move(done));
    return done(false);
  }
  push_elsewhere(core, stream, index, std::move(item), std::move(done));
}

}  // namespace trireme::python
