#include "core/decode_call.hpp"

#include <cxxabi.h>
#include <fmt/format.h>

#include <cstdlib>

namespace trireme::core {

std::string type_text(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 ? name.get() : type.name();
}

namespace {

std::string mismatch(const Context& context, Rank from, const detail::FunctionEntry& entry, const detail::Value& args,
                     std::uint32_t decoded, const std::string& reason) {
  std::string found = "they do not decode";
  if (entry.type != nullptr) {
    found = fmt::format("here it is {}, and ", type_text(*entry.type));
    found += decoded < entry.parameters
                 ? fmt::format("argument {} of {} does not decode", decoded + 1, entry.parameters)
                 : fmt::format("bytes are left over after {} arguments", entry.parameters);
  }
  if (!reason.empty()) found += " (" + reason + ")";
  return fmt::format(
      "rank {} called {} on rank {} with {} bytes of arguments and {} references: {}; the two run different "
      "builds of it: load the same libraries on every rank",
      from, entry.name, context.self, args.view().size(), args.refs.size(), found);
}

}  // namespace

detail::Invocation* decode_call(const Context& context, Rank from, std::uint64_t function, const detail::Value& args,
                                std::unique_ptr<detail::ErrorInfo>& error) {
  const auto fail = [&](Errc code, std::string message) -> detail::Invocation* {
    error = std::make_unique<detail::ErrorInfo>(runtime_error(context, code, std::move(message)));
    return nullptr;
  };
  const auto* entry = detail::find_function(function);
  if (entry == nullptr) {
    return fail(Errc::not_found, fmt::format("rank {} asked for function {:016x}, which no library loaded in rank {} "
                                             "registers: load the same libraries on every rank",
                                             from, function, context.self));
  }
  if (entry->ambiguous) {
    return fail(Errc::already_exists, fmt::format("two different functions are called {}: give functions in anonymous "
                                                  "namespaces names of their own",
                                                  entry->name));
  }
  std::uint32_t decoded = 0;
  try {
    return entry->decode(args, decoded);
  } catch (const detail::DecodeError&) {
    return fail(Errc::type_mismatch, mismatch(context, from, *entry, args, decoded, ""));
  } catch (const Exception&) {
    // An array inside an argument that is lost: its error stands.
    error = std::make_unique<detail::ErrorInfo>(detail::current_exception_info(entry->name));
    return nullptr;
  } catch (...) {
    // A serialize() that was handed bytes of something else may throw anything.
    const auto thrown = detail::current_exception_info(entry->name);
    return fail(Errc::type_mismatch,
                mismatch(context, from, *entry, args, decoded, thrown.type + ": " + thrown.message));
  }
}

}  // namespace trireme::core
