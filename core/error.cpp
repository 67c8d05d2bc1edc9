#include "trireme/error.hpp"

#include <cxxabi.h>
#include <fmt/format.h>

#include <exception>
#include <memory>

#include "core/context.hpp"
#include "core/current.hpp"
#include "core/decode_call.hpp"
#include "core/rank_core.hpp"

namespace trireme {

namespace {

std::string one_line(const detail::ErrorInfo& info) {
  std::string text = info.type.empty() ? info.message : info.type + ": " + info.message;
  if (info.rank != kNoRank) {
    text += " [";
    if (!info.task.empty()) text += "in " + info.task + " ";
    text += fmt::format("on rank {}", info.rank);
    if (!info.host.empty()) text += ", host " + info.host;
    text += "]";
  }
  return text;
}

std::string type_of_current_exception() {
  const auto* type = abi::__cxa_current_exception_type();
  if (type == nullptr) return "unknown";
  return core::type_text(*type);
}

}  // namespace

Exception::Exception(detail::ErrorInfo info) : std::runtime_error(one_line(info)), info_(std::move(info)) {}

namespace detail {

void throw_error(const ErrorInfo& info) {
  switch (info.code) {
    case Errc::task_failed:
      throw TaskError(info);
    case Errc::actor_died:
      throw ActorDiedError(info);
    case Errc::timeout:
      throw TimeoutError(info);
    default:
      throw Exception(info);
  }
}

ErrorInfo current_exception_info(std::string_view task) {
  ErrorInfo info;
  info.code = Errc::task_failed;
  try {
    throw;
  } catch (const Exception& e) {
    // An error that came through a reference keeps its origin.
    return e.info();
  } catch (const std::exception& e) {
    info.type = type_of_current_exception();
    info.message = e.what();
  } catch (...) {
    info.type = type_of_current_exception();
    info.message = "(not derived from std::exception)";
  }
  info.task = task;
  if (const auto* core = core::current_or_null()) {
    info.rank = core->context().self;
    info.host = core->context().host_name;
  }
  return info;
}

}  // namespace detail

namespace core {

void encode_error(Writer& out, const detail::ErrorInfo& error) {
  out.put(error.code);
  out.text(error.message);
  out.text(error.type);
  out.put(error.rank);
  out.text(error.host);
  out.text(error.task);
  out.text(error.payload);
}

detail::ErrorInfo decode_error(Reader& in) {
  detail::ErrorInfo error;
  error.code = in.get<Errc>();
  error.message = in.text();
  error.type = in.text();
  error.rank = in.get<Rank>();
  error.host = in.text();
  error.task = in.text();
  error.payload = in.text();
  return error;
}

}  // namespace core

}  // namespace trireme
