#pragma once

#include <functional>
#include <vector>

#include "core/refs.hpp"

namespace trireme::core {

/// The first of these that is an error, or nullptr.
const detail::ErrorInfo* error_in(const std::vector<CellRef>& cells);

/// Waits, under the token, until reference arguments are in this rank. Calls `then(error or nullptr)` once.
void when_local(Context& context, Refs& refs, std::vector<CellRef> deps,
                std::function<void(const detail::ErrorInfo*)> then);

}  // namespace trireme::core
