#include "scheduler/fiber.hpp"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstring>

#include "base/check.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define TRIREME_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRIREME_FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TRIREME_FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TRIREME_FIBER_TSAN 1
#endif
#endif

#ifdef TRIREME_FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TRIREME_FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace trireme::scheduler {
namespace {

namespace context = boost::context::detail;

struct Switch {
  Fiber* from;
  Fiber* to;
};

/// Layout fixed by the Itanium C++ ABI (section 2.2.2).
struct ExceptionGlobals {
  void* caught;
  unsigned uncaught;
};

ExceptionGlobals* exception_globals() { return reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals()); }

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

struct Fiber::Start {
  [[noreturn]] static void run(context::transfer_t transfer) {
    const Switch arrived = *static_cast<Switch*>(transfer.data);
    Fiber* self = arrived.to;
    self->arrived_from(*arrived.from, transfer.fctx);
    self->entry_(self->argument_);
    check_failed("false", __FILE__, __LINE__, "a fiber's entry function returned");
  }
};

Fiber::Fiber() {
#ifdef TRIREME_FIBER_TSAN
  tsan_ = __tsan_get_current_fiber();
#endif
}

std::unique_ptr<Fiber> Fiber::create(std::size_t stack_bytes, Entry entry, void* argument) {
  const std::size_t page = page_bytes();
  const std::size_t usable = (stack_bytes + page - 1) / page * page;
  const std::size_t total = usable + page;
  void* map = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  auto* low = static_cast<std::byte*>(map) + page;
  if (mprotect(low, usable, PROT_READ | PROT_WRITE) != 0) {
    munmap(map, total);
    return nullptr;
  }
  auto fiber = std::make_unique<Fiber>();
  fiber->map_ = static_cast<std::byte*>(map);
  fiber->map_bytes_ = total;
  fiber->stack_low_ = low;
  fiber->stack_bytes_ = usable;
  fiber->entry_ = entry;
  fiber->argument_ = argument;
  fiber->context_ = context::make_fcontext(low + usable, usable, &Start::run);
#ifdef TRIREME_FIBER_TSAN
  fiber->tsan_ = __tsan_create_fiber(0);
#endif
  return fiber;
}

Fiber::~Fiber() {
  if (map_ == nullptr) return;
#ifdef TRIREME_FIBER_TSAN
  __tsan_destroy_fiber(tsan_);
#endif
#ifdef TRIREME_FIBER_ASAN
  // What is not unwound has left its marks, and anything may be mapped here next.
  ASAN_UNPOISON_MEMORY_REGION(stack_low_, stack_bytes_);
#endif
  munmap(map_, map_bytes_);
}

void Fiber::switch_to(Fiber& to) {
  ExceptionGlobals* globals = exception_globals();
  exceptions_caught_ = globals->caught;
  exceptions_uncaught_ = globals->uncaught;
  globals->caught = to.exceptions_caught_;
  globals->uncaught = to.exceptions_uncaught_;
#ifdef TRIREME_FIBER_ASAN
  __sanitizer_start_switch_fiber(&fake_stack_, to.stack_low_, to.stack_bytes_);
#endif
#ifdef TRIREME_FIBER_TSAN
  __tsan_switch_to_fiber(to.tsan_, 0);
#endif
  Switch going{this, &to};
  const context::transfer_t transfer = context::jump_fcontext(to.context_, &going);
  arrived_from(*static_cast<Switch*>(transfer.data)->from, transfer.fctx);
}

void Fiber::arrived_from(Fiber& from, void* context) {
  from.context_ = context;
#ifdef TRIREME_FIBER_ASAN
  const void* low = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack_, &low, &bytes);
  // A thread's own stack is learnt when it is left for the first time.
  from.stack_low_ = low;
  from.stack_bytes_ = bytes;
#endif
}

}  // namespace trireme::scheduler
