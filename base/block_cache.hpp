#pragma once

#include <cstddef>
#include <new>

namespace trireme {

/// Memory for small objects that come and go as fast as tasks do. A thread keeps what it gives back for what it takes
/// next; what it has too much of goes on in batches to threads that have too little (Bonwick and Adams 2001 call them
/// magazines). What is more than that, and what is large, is the C library's.
///
/// Threading: any thread may give back what another one took.
/// Errors:    std::bad_alloc.
/// Units:     bytes; give_block() is told the size that take_block() was asked for. Aligned as operator new is.
void* take_block(std::size_t bytes);
void give_block(void* block, std::size_t bytes) noexcept;

/// Base of a class whose objects are made and deleted that way. A final class, or one deleted as what it is.
struct CachedBlock {
  static void* operator new(std::size_t bytes) { return take_block(bytes); }
  static void operator delete(void* block, std::size_t bytes) noexcept { give_block(block, bytes); }
  static void* operator new(std::size_t bytes, std::align_val_t alignment) { return ::operator new(bytes, alignment); }
  static void operator delete(void* block, std::size_t, std::align_val_t alignment) noexcept {
    ::operator delete(block, alignment);
  }
  static void* operator new(std::size_t, void* at) noexcept { return at; }
};

}  // namespace trireme
