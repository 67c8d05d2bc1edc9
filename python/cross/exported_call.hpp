#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/running_calls.hpp"
#include "python/cross/blob.hpp"
#include "trireme/detail/invocation.hpp"

namespace trireme::python::cross {

/// A call of an exported function or method. Its result comes in wire form, so that it can be cancelled.
struct ExportedCall {
  std::string library;  ///< is loaded where it runs; empty: part of the program
  std::string name;     ///< of the function, the class, or the method
  Blob args;
  std::vector<trireme::detail::CellRef> deps;  ///< arguments that are references: are there before it begins
  std::uint64_t key = 0;                       ///< names the call in the whole job; see core/cancel.hpp
};

// Born with two references: the result, and the one that whoever runs it takes over.
trireme::detail::TaskBase* make_exported_task(ExportedCall call);
trireme::detail::CallBase* make_exported_call(ExportedCall call);
/// The key of the call that makes this cell, when it is one of these and was made in this rank; else 0.
std::uint64_t key_of_exported(const trireme::detail::Cell* result);
/// Those that run in this process.
core::RunningCalls& running_exported();

}  // namespace trireme::python::cross
