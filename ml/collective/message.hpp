#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ml/collective/fold.hpp"

namespace trireme::ml {

/// What pairs a send with its receive, besides the two members. Every key is used once, so that pairing needs no order:
/// collectives number themselves and their steps, user messages are counted on both sides by (peer, tag).
using Key = std::uint64_t;
inline Key collective_key(std::uint64_t operation, std::uint64_t step) {
  return std::uint64_t{1} << 63U | (operation & 0x7FFFFFFFU) << 32U | step;
}
inline Key user_key(std::uint32_t tag, std::uint32_t number) {
  return std::uint64_t{tag & 0x7FFFFFFFU} << 32U | number;
}

/// Of a receive: what comes is combined into `into`, what came first.
struct Combine {
  DType type;
  ReduceOp op;
  void* into;
};

/// A send or a receive of bytes under way. `done` by the driver of the group only.
struct Message {
  Message(std::uint32_t peer, Key key, void* data, std::size_t bytes)
      : peer(peer), key(key), data(static_cast<std::byte*>(data)), bytes(bytes) {}
  const std::uint32_t peer;
  const Key key;
  std::byte* const data;
  const std::size_t bytes;
  bool done = false;
  bool joined = false;             ///< of a send: the receiver is known to take part, so it reads what comes
  std::optional<Combine> combine;  ///< of what comes whole; what comes in parts is gathered in `data` before
  std::function<void()> on_done;   ///< for user messages; runs once

  /// The bytes of a receive, all in one place. finish() follows.
  void take(const std::byte* from) {
    if (combine)
      fold_in(from);
    else if (bytes != 0)
      std::memcpy(data, from, bytes);
  }
  void finish() {
    if (combine) fold_in(data);
    done = true;
    if (on_done) std::exchange(on_done, nullptr)();
  }

 private:
  /// UCX hands data out where they lie behind its headers, at odd addresses: these go through a block in the cache.
  void fold_in(const std::byte* from) {
    const auto [type, op, into] = *combine;
    auto* const to = static_cast<std::byte*>(into);
    const std::size_t element = bytes_of(type);
    if (reinterpret_cast<std::uintptr_t>(from) % element == 0) {
      fold2(type, op, to, from, to, bytes / element);
    } else {
      alignas(64) std::byte block[4096];
      for (std::size_t at = 0; at < bytes; at += sizeof block) {
        const std::size_t n = std::min(sizeof block, bytes - at);
        std::memcpy(block, from + at, n);
        fold2(type, op, to + at, block, to + at, n / element);
      }
    }
    combine.reset();
  }
};
using MessagePtr = std::shared_ptr<Message>;

/// A receive whose caller stays with it until it is done: nothing is kept for it.
struct Awaited {
  std::uint32_t peer;
  Key key;
  std::size_t bytes;
  std::byte* into;
  bool done = false;
};

/// What has come from a peer before somebody asked for it.
struct Arrival {
  std::size_t bytes = 0;
  std::vector<std::byte> copy;  ///< of a message that came whole
  bool complete = false;        ///< false while the copy is still being filled
  /// Of one that waits at its sender: fetches it into the message, or drops it when there is none.
  std::function<void(MessagePtr)> fetch;
};

/// Receives that wait for their message, and messages that wait for their receive. Threading: the group's driver.
class Mailbox {
 public:
  /// Told of a receive and a message of different sizes.
  std::function<void(std::uint32_t peer, std::size_t wanted, std::size_t came)> on_mismatch;

  void receive(const MessagePtr& message) {
    const auto found = arrivals_.find({message->peer, message->key});
    if (found == arrivals_.end() || (!found->second->fetch && !found->second->complete)) {
      posted_.emplace(Id{message->peer, message->key}, message);
      return;
    }
    const auto arrival = std::move(found->second);
    arrivals_.erase(found);
    settle(*arrival, message);
  }
  /// One at a time, of messages that come whole. It is done at once, or by give(); otherwise forget().
  void await(Awaited& awaited) {
    const auto found = arrivals_.find({awaited.peer, awaited.key});
    if (found == arrivals_.end()) {
      awaited_ = &awaited;
      return;
    }
    const auto arrival = std::move(found->second);
    arrivals_.erase(found);
    fill(awaited, arrival->copy.data(), arrival->bytes);
  }
  void forget() { awaited_ = nullptr; }
  /// False if the awaited one is another.
  bool give(std::uint32_t peer, Key key, const std::byte* data, std::size_t bytes) {
    if (awaited_ == nullptr || awaited_->key != key || awaited_->peer != peer) return false;
    fill(*std::exchange(awaited_, nullptr), data, bytes);
    return true;
  }
  /// The receive that waits for it, taken out; or nothing.
  MessagePtr take_posted(std::uint32_t peer, Key key, std::size_t bytes) {
    const auto found = posted_.find({peer, key});
    if (found == posted_.end()) return {};
    auto message = std::move(found->second);
    posted_.erase(found);
    if (message->bytes == bytes) return message;
    on_mismatch(peer, message->bytes, bytes);
    return {};
  }
  /// Keeps what nobody has asked for. It may be filled later: then completed() follows.
  std::shared_ptr<Arrival> keep(std::uint32_t peer, Key key, Arrival arrival) {
    auto kept = std::make_shared<Arrival>(std::move(arrival));
    arrivals_[{peer, key}] = kept;
    return kept;
  }
  void completed(std::uint32_t peer, Key key) {
    const auto found = arrivals_.find({peer, key});
    if (found == arrivals_.end()) return;
    found->second->complete = true;
    const auto waiting = posted_.find({peer, key});
    if (waiting == posted_.end()) return;
    const auto message = std::move(waiting->second);
    const auto arrival = std::move(found->second);
    posted_.erase(waiting);
    arrivals_.erase(found);
    settle(*arrival, message);
  }
  /// Ends everything; receives are not finished.
  void clear() {
    posted_.clear();
    awaited_ = nullptr;
    for (auto& [id, arrival] : std::exchange(arrivals_, {}))
      if (arrival->fetch) arrival->fetch(nullptr);
  }
  /// Some peer that a receive waits for, or nothing.
  template <class Wanted>
  bool awaits(Wanted wanted) const {
    for (const auto& [id, message] : posted_)
      if (wanted(id.peer)) return true;
    return awaited_ != nullptr && wanted(awaited_->peer);
  }

 private:
  struct Id {
    std::uint32_t peer;
    Key key;
    bool operator==(const Id&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Id& id) const noexcept {
      return (id.key ^ std::uint64_t{id.peer} << 40U) * 0x9E3779B97F4A7C15ULL;
    }
  };
  void fill(Awaited& awaited, const std::byte* data, std::size_t bytes) {
    if (awaited.bytes != bytes) return on_mismatch(awaited.peer, awaited.bytes, bytes);
    if (bytes != 0) std::memcpy(awaited.into, data, bytes);
    awaited.done = true;
  }
  void settle(Arrival& arrival, const MessagePtr& message) {
    if (arrival.bytes != message->bytes) return on_mismatch(message->peer, message->bytes, arrival.bytes);
    if (arrival.fetch) return arrival.fetch(message);
    message->take(arrival.copy.data());
    message->finish();
  }

  Awaited* awaited_ = nullptr;
  std::unordered_map<Id, MessagePtr, Hash> posted_;
  std::unordered_map<Id, std::shared_ptr<Arrival>, Hash> arrivals_;
};

}  // namespace trireme::ml
