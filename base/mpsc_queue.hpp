#pragma once

#include <atomic>

namespace trireme {

/// A link for MpscQueue; inherit from it.
struct MpscNode {
  // Written by the producer that appends behind it (release), read by the consumer (acquire).
  std::atomic<MpscNode*> mpsc_next{nullptr};
};

/// Intrusive queue of many producers and one consumer (D. Vyukov, 2010).
///
/// Threading: push() from any thread, wait-free; pop() from one thread at a time. FIFO per producer.
/// Errors:    none. pop() may return nullptr while a producer is between its two steps; `empty()` is then false.
/// Lifetime:  the queue never frees nodes.
class MpscQueue {
 public:
  MpscQueue() : head_(&stub_), tail_(&stub_) {}
  MpscQueue(const MpscQueue&) = delete;
  MpscQueue& operator=(const MpscQueue&) = delete;

  /// Returns true when the queue was empty before (a hint that the consumer may sleep).
  bool push(MpscNode* node) {
    node->mpsc_next.store(nullptr, std::memory_order_relaxed);
    // acq_rel: publishes the node's content to the next producer's link step, and orders pushes among producers.
    MpscNode* before = head_.exchange(node, std::memory_order_acq_rel);
    before->mpsc_next.store(node, std::memory_order_release);  // pairs with the acquire in pop()
    return before == &stub_;
  }

  MpscNode* pop() {
    MpscNode* tail = tail_;
    MpscNode* next = tail->mpsc_next.load(std::memory_order_acquire);
    if (tail == &stub_) {
      if (next == nullptr) return nullptr;
      tail_ = next;
      tail = next;
      next = next->mpsc_next.load(std::memory_order_acquire);
    }
    if (next != nullptr) {
      tail_ = next;
      return tail;
    }
    if (tail != head_.load(std::memory_order_acquire)) return nullptr;  // a push is half done
    push(&stub_);
    next = tail->mpsc_next.load(std::memory_order_acquire);
    if (next == nullptr) return nullptr;
    tail_ = next;
    return tail;
  }

  /// Consumer only. False while anything was pushed and not popped.
  bool empty() const { return tail_ == &stub_ && head_.load(std::memory_order_acquire) == &stub_; }

 private:
  alignas(64) std::atomic<MpscNode*> head_;  // producers
  alignas(64) MpscNode* tail_;               // consumer
  MpscNode stub_;
};

}  // namespace trireme
