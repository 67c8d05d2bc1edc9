// What MPI takes as it starts and ends is no leak of a test (leak_check.cpp): it keeps some, and unloads its plugins.
// Nor is what the threads take that it starts then; they run nothing of ours.
#if defined(__SANITIZE_ADDRESS__)

#include <dlfcn.h>
#include <mpi.h>
#include <pthread.h>
#include <sanitizer/lsan_interface.h>

namespace {

thread_local bool in_mpi = false;

struct Unaccounted {
  Unaccounted() { in_mpi = true; }
  ~Unaccounted() { in_mpi = false; }
  __lsan::ScopedDisabler scope;
};

using Body = void* (*)(void*);

struct Thread {
  Body body;
  void* argument;
};

void* run_unaccounted(void* given) {
  const Unaccounted unaccounted;
  const auto* const thread = static_cast<Thread*>(given);
  const auto [body, argument] = *thread;
  delete thread;
  return body(argument);
}

}  // namespace

extern "C" {

// In the place of the library's, which MPI's profiling interface has by another name.
int MPI_Init(int* argc, char*** argv) {
  const Unaccounted unaccounted;
  return PMPI_Init(argc, argv);
}
int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  const Unaccounted unaccounted;
  return PMPI_Init_thread(argc, argv, required, provided);
}
int MPI_Finalize() {
  const Unaccounted unaccounted;
  return PMPI_Finalize();
}

int pthread_create(pthread_t* id, const pthread_attr_t* attributes, Body body, void* argument) {
  static const auto original = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  if (!in_mpi) return original(id, attributes, body, argument);
  auto* const thread = new Thread{body, argument};
  const int error = original(id, attributes, run_unaccounted, thread);
  if (error != 0) delete thread;
  return error;
}
}

#endif
