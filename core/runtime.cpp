#include "trireme/runtime.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/log.hpp"
#include "core/arguments.hpp"
#include "core/session.hpp"

namespace trireme {

namespace core {

void ThreadHost::fatal(const std::string& why) {
  std::fprintf(stderr, "trireme: %s\n", why.c_str());
  std::fflush(stderr);
  // No destructors: other threads still run, and the job is over.
  _exit(1);
}

}  // namespace core

namespace {

[[noreturn]] void throw_start_error(const Error& error) {
  detail::ErrorInfo info;
  info.code = error.code;
  info.message = error.message;
  throw Exception(std::move(info));
}

[[noreturn]] void throw_invalid(std::string message) {
  throw_start_error({Errc::invalid_argument, std::move(message)});
}

void add_resources(RuntimeOptions& options, const std::string& list) {
  std::size_t at = 0;
  while (at < list.size()) {
    const auto end = std::min(list.find(',', at), list.size());
    const auto item = list.substr(at, end - at);
    const auto equals = item.find('=');
    char* rest = nullptr;
    const bool named = equals != std::string::npos && equals != 0;
    const double amount = named ? std::strtod(item.c_str() + equals + 1, &rest) : 0;
    if (!named || !(amount >= 0) || rest == item.c_str() + equals + 1 || *rest != '\0')
      throw_invalid("resources are given as name=amount,...; found '" + item + "'");
    options.resources[item.substr(0, equals)] = amount;
    at = end + 1;
  }
}

std::uint64_t parse_count(const std::string& what, const std::string& text) {
  if (text.empty() || text[0] < '0' || text[0] > '9')
    throw_invalid(what + " takes a number (k, m, g may follow); found '" + text + "'");
  char* rest = nullptr;
  const auto value = std::strtoull(text.c_str(), &rest, 10);
  std::uint64_t unit = 1;
  switch (*rest) {
    case 'k':
    case 'K':
      unit = 1ULL << 10U;
      ++rest;
      break;
    case 'm':
    case 'M':
      unit = 1ULL << 20U;
      ++rest;
      break;
    case 'g':
    case 'G':
      unit = 1ULL << 30U;
      ++rest;
      break;
    default:
      break;
  }
  if (*rest != '\0') throw_invalid(what + " takes a number (k, m, g may follow); found '" + text + "'");
  return value * unit;
}

}  // namespace

RuntimeOptions core::environment_options(RuntimeOptions options) {
  if (const char* threads = std::getenv("TRIREME_THREADS"); threads != nullptr && options.threads == 0)
    options.threads = static_cast<unsigned>(parse_count("TRIREME_THREADS", threads));
  if (const char* resources = std::getenv("TRIREME_RESOURCES"); resources != nullptr) add_resources(options, resources);
  if (const char* pin = std::getenv("TRIREME_PIN"); pin != nullptr && std::string(pin) == "0") options.pin = false;
  return options;
}

RuntimeOptions core::argument_options(int& argc, char** argv, RuntimeOptions options) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value_of = [&](const char* name) -> const char* {
      const auto length = std::string(name).size();
      return arg.compare(0, length, name) == 0 ? argv[i] + length : nullptr;
    };
    if (const char* value = value_of("--trireme-threads="))
      options.threads = static_cast<unsigned>(parse_count("--trireme-threads", value));
    else if (const char* bytes = value_of("--trireme-arena="))
      options.arena_bytes = parse_count("--trireme-arena", bytes);
    else if (const char* list = value_of("--trireme-resources="))
      add_resources(options, list);
    else if (arg.compare(0, 10, "--trireme-") == 0)
      throw_invalid("unknown argument " + arg +
                    "; there are --trireme-threads=N, --trireme-arena=BYTES, --trireme-resources=LIST");
    else
      argv[kept++] = argv[i];
  }
  argv[kept] = nullptr;
  argc = kept;
  return options;
}

struct Runtime::Impl {
  std::unique_ptr<core::Session> session;
};

Runtime::Runtime(int& argc, char** argv, RuntimeOptions options)
    : Runtime(core::argument_options(argc, argv, std::move(options))) {}

Runtime::Runtime(RuntimeOptions options) : impl_(std::make_unique<Impl>()) {
  if (core::current_or_null() != nullptr)
    throw_start_error({Errc::already_exists, "this process has a Runtime already: end it before another is made"});
  auto bootstrap = transport::bootstrap_detect();
  if (!bootstrap) throw_start_error(bootstrap.error());
  auto session = core::Session::start(**bootstrap, core::environment_options(std::move(options)));
  if (!session) throw_start_error(session.error());
  impl_->session = std::move(*session);
  if (impl_->session->rank() == 0) return;
  impl_->session->serve();
  impl_.reset();
  std::exit(0);
}

Runtime::~Runtime() {
  if (impl_ && impl_->session) impl_->session->stop();
}

Rank Runtime::rank() const { return impl_->session->rank(); }
std::uint32_t Runtime::size() const { return impl_->session->core().context().size; }

Rank this_rank() { return core::current().context().self; }
std::uint32_t rank_count() { return core::current().context().size; }
bool rank_alive(Rank rank) {
  auto& core = core::current();
  if (rank >= core.context().size) return false;
  return core.context().alive(rank);
}

}  // namespace trireme
