// Leaks of a test's process under the address sanitizer, looked for as it ends: rank 0 returns from main(), the other
// ranks leave through std::exit(), and both have joined their threads by then.
//
// Not the sanitizer's own check at the exit, with a list of functions to overlook: it looks for them under its own
// lock, and now and then met an error in itself there and waited for that lock for ever (GCC 12; PMIx has unloaded its
// plugins by then). Here nothing needs a name before something has leaked: what PMIx allocates is marked as it does so.
// Only calls of PMIx, never UCX's, which run our handlers.
#if defined(__SANITIZE_ADDRESS__)

#include <dlfcn.h>
#include <pmix.h>
#include <sanitizer/lsan_interface.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kLeaked = 23;  // as the sanitizer's own check

void check() {
  if (__lsan_do_recoverable_leak_check() == 0) return;
  std::fflush(nullptr);
  _exit(kLeaked);
}

/// Before main(), so that it runs after the destructors of all that tests make.
[[maybe_unused]] const int registered = std::atexit(check);

/// The library's own function; what it allocates is no leak.
template <class F, class... Args>
pmix_status_t unaccounted(const char* name, Args... args) {
  auto* const original = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
  const __lsan::ScopedDisabler scope;
  return original(args...);
}

}  // namespace

extern "C" {

const char* __asan_default_options() { return "leak_check_at_exit=0"; }

pmix_status_t PMIx_Init(pmix_proc_t* self, pmix_info_t info[], std::size_t count) {
  return unaccounted<decltype(PMIx_Init)>("PMIx_Init", self, info, count);
}
pmix_status_t PMIx_Finalize(const pmix_info_t info[], std::size_t count) {
  return unaccounted<decltype(PMIx_Finalize)>("PMIx_Finalize", info, count);
}
}

#endif
