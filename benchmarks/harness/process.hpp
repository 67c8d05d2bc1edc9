#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace trireme::bench {

/// The cores that this process may use, by its affinity mask.
std::vector<int> allowed_cores();

/// Binds the calling thread to the n-th allowed core, counted round.
void pin_to_core(std::size_t n);

/// Zeroed memory that a forked child shares. Stays mapped until the process ends.
void* shared_memory(std::size_t bytes);

/// Runs `child` in a forked process that dies with this one, and `parent` here; waits for the child.
/// Ends the program if the child failed. To be called before any library has started a thread.
void run_pair(const std::function<void()>& parent, const std::function<void()>& child);

}  // namespace trireme::bench
