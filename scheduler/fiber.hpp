#pragma once

#include <cstddef>
#include <memory>

namespace trireme::scheduler {

/// A stack of its own on which code runs until it switches to another fiber of the same thread.
///
/// The C++ exception state (what is being thrown and caught) belongs to the fiber, so a switch inside a catch block is
/// safe. Below the stack lies a guard page: an overflow is a SIGSEGV there, never silent damage.
///
/// Threading: one thread for the whole life; switch_to() is called on the running fiber.
/// Errors:    create() returns nullptr when the system gives no memory map.
/// Units:     stack sizes in bytes, rounded up to pages.
/// Lifetime:  destroyed while it does not run; what lives on its stack is not unwound.
class Fiber {
 public:
  using Entry = void (*)(void* argument);

  /// The calling thread's own stack.
  Fiber();
  /// `entry` runs at the first switch to it and must never return.
  static std::unique_ptr<Fiber> create(std::size_t stack_bytes, Entry entry, void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Stops this fiber, which is the running one, and goes on with `to`. Returns when somebody switches back.
  void switch_to(Fiber& to);
  /// Lowest address of the stack; null for a thread's own stack.
  const std::byte* low() const { return map_ == nullptr ? nullptr : static_cast<const std::byte*>(stack_low_); }

 private:
  struct Start;
  void arrived_from(Fiber& from, void* context);

  void* context_ = nullptr;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
  std::byte* map_ = nullptr;  // guard page, then the stack; null for a thread's own stack
  std::size_t map_bytes_ = 0;
  const void* stack_low_ = nullptr;
  std::size_t stack_bytes_ = 0;
  void* exceptions_caught_ = nullptr;
  unsigned exceptions_uncaught_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;  // AddressSanitizer
  [[maybe_unused]] void* tsan_ = nullptr;        // ThreadSanitizer
};

}  // namespace trireme::scheduler
