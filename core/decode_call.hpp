#pragma once

#include <memory>
#include <string>
#include <typeinfo>

#include "core/context.hpp"
#include "trireme/detail/function.hpp"

namespace trireme::core {

/// The type as it stands in the source.
std::string type_text(const std::type_info& type);

/// Makes the invocation that rank `from` asked for out of its encoded arguments.
///
/// Threading: any thread. Errors: nullptr and `error`: not_found (no such function here), already_exists (two functions
/// of that name), type_mismatch (the arguments are not of the types that the function takes in this build: says which
/// argument, and what was asked), or what reading an argument ended with.
detail::Invocation* decode_call(const Context& context, Rank from, std::uint64_t function, const detail::Value& args,
                                std::unique_ptr<detail::ErrorInfo>& error);

}  // namespace trireme::core
