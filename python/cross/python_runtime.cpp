#include <fmt/format.h>
#include <signal.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "core/arguments.hpp"
#include "python/cross/pickle.hpp"
#include "python/cross/template_process.hpp"
#include "python/native/rank_api.hpp"
#include "trireme/python/runtime.hpp"

namespace trireme::python {

namespace {

/// Under this key rank 0 keeps the job's settings for all workers (trireme._init.JOB_KEY).
constexpr std::string_view kJobKey{"trireme:job\0\0\0\0\0", 16};

std::shared_ptr<RankApi> the_rank;

RankApi& rank_api() {
  if (the_rank == nullptr) {
    trireme::detail::ErrorInfo error;
    error.code = Errc::unavailable;
    error.message = "Python is called without a trireme::python::Runtime: make one first in main()";
    throw Exception(std::move(error));
  }
  return *the_rank;
}

BytesView bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

Value text(std::string_view value) { return std::string(value); }

/// Makes bytes known to the job; what travels with calls (trireme._functions): rank and key, 20 bytes.
Value::Bytes publish(const std::string& name, BytesView blob) {
  // The name alone decides what the bytes are, so it makes the key: two hashes of it.
  const std::array<std::uint64_t, 2> key{trireme::detail::hash_text(name),
                                         trireme::detail::hash_text(name, 0x9e3779b97f4a7c15ULL)};
  const auto bytes = std::as_bytes(std::span(key));
  rank_api().export_blob(bytes, blob);
  const std::uint32_t rank = rank_api().rank();
  const auto first = std::as_bytes(std::span(&rank, 1));
  Value::Bytes meta(first.begin(), first.end());
  meta.insert(meta.end(), bytes.begin(), bytes.end());
  return meta;
}

/// `trireme._cpp_values.HELPER(module, name)` as a pickle: the function or class in the worker.
Value::Bytes definition(const std::string& helper, const std::string& name) {
  const auto colon = name.find(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == name.size()) {
    trireme::detail::ErrorInfo error;
    error.code = Errc::invalid_argument;
    error.message = fmt::format("a Python function or class is named 'module:name'; found '{}'", name);
    throw Exception(std::move(error));
  }
  const Value arguments = Value::Tuple{{text(name.substr(0, colon)), text(name.substr(colon + 1))}};
  return publish(helper + " " + name, cross::write_call("trireme._cpp_values", helper, arguments));
}

/// A dict that names the function or class and says what a worker must know (trireme._functions).
Value::Bytes spec(const std::string& kind, const std::string& helper, const std::string& name, Value::Dict more) {
  more.emplace_back(text(kind), definition(helper, name));
  more.emplace_back(text("name"), text(name.substr(name.find(':') + 1)));
  more.emplace_back(text("refs"), std::int64_t{0});
  more.emplace_back(text("resources"), Value::Dict{});
  more.emplace_back(text("group"), nullptr);
  more.emplace_back(text("capture"), false);
  return publish("spec of " + kind + " " + name, cross::write_value(Value(std::move(more))).data);
}

/// What CallSource points to.
struct Call {
  Call(Value::Bytes meta_bytes, std::string label, const cross::Passed& passed)
      : meta(std::move(meta_bytes)), name(std::move(label)) {
    Value arguments = Value::Tuple{passed.values};
    if (!passed.references.empty()) {
      Value::List positions;
      for (const auto& [at, ref] : passed.references) {
        positions.emplace_back(static_cast<std::int64_t>(at));
        refs.push_back(ref);
      }
      arguments = Value::List{Value(passed.values), Value(Value::Dict{}), Value(std::move(positions))};
    }
    if (!passed.values.empty()) written = cross::write_value(arguments);
    for (const auto& array : written.arrays) buffers.emplace_back(array.data.get(), array.bytes());
    source.meta = meta;
    source.args = {written.data, buffers, refs};
    source.deps = static_cast<std::uint32_t>(refs.size());
    source.name = name;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  Value::Bytes meta;
  std::string name;
  cross::Written written;
  std::vector<BytesView> buffers;
  std::vector<RefPtr> refs;
  CallSource source;
};

/// Shows what workers write, as the package does.
void print_logs(RankApi& api) {
  for (auto lines = api.next_logs(); !lines.empty(); lines = api.next_logs()) {
    for (const auto& line : lines) {
      if (line.text.starts_with(kCallMark)) continue;
      auto* out = line.stream == 1 ? stdout : stderr;
      fmt::print(out, "({}{}pid={} rank={}) {}\n", line.label, line.label.empty() ? "" : " ", line.pid, api.rank(),
                 line.text);
      std::fflush(out);
    }
  }
}

Value job_settings() {
  std::random_device random;
  const auto id = fmt::format("{:08x}", random());
  std::error_code ignored;
  const auto folder = std::filesystem::current_path(ignored).string();
  Value::Dict job;
  job.emplace_back(text("job_id"), text(id));
  job.emplace_back(text("namespace"), text(id));
  job.emplace_back(text("sys_path"), Value::List{text(folder)});
  job.emplace_back(text("cwd"), text(folder));
  job.emplace_back(text("runtime_env"), Value::Dict{});
  job.emplace_back(text("log_to_driver"), true);
  return job;
}

}  // namespace

struct Runtime::Impl {
  cross::TemplateProcess process;
  std::thread logs;

  void end() {
    the_rank->stop();
    logs.join();
    the_rank.reset();
    cross::join(process);
  }
};

Runtime::Runtime(int& argc, char** argv, RuntimeOptions options) : impl_(std::make_unique<Impl>()) {
  options = core::argument_options(argc, argv, std::move(options));
  impl_->process = cross::start_template_process();
  RankOptions rank;
  rank.threads = options.threads;
  rank.arena_bytes = options.arena_bytes;
  rank.gpus = options.gpus;
  rank.resources = options.resources;
  rank.labels = options.labels;
  rank.zygote_fd = impl_->process.fd;
  rank.zygote_pid = impl_->process.pid;
  try {
    the_rank = RankApi::create(rank);
  } catch (...) {
    ::kill(impl_->process.pid, SIGKILL);
    cross::join(impl_->process);
    throw;
  }
  impl_->logs = std::thread([] { print_logs(*the_rank); });
  if (the_rank->rank() == 0) {
    the_rank->export_blob(bytes_of(kJobKey), cross::write_value(job_settings()).data);
    return;
  }
  the_rank->serve({});
  impl_->end();
  std::exit(0);
}

Runtime::~Runtime() { impl_->end(); }

Rank Runtime::rank() const { return the_rank->rank(); }
std::uint32_t Runtime::size() const { return the_rank->size(); }

namespace cross {

RefPtr call_function(const std::string& name, const Passed& args) {
  Value::Dict more;
  more.emplace_back(text("num_returns"), std::int64_t{1});
  more.emplace_back(text("retry"), false);
  more.emplace_back(text("max_retries"), std::int64_t{3});
  more.emplace_back(text("max_calls"), std::int64_t{0});
  const Call call(spec("function", "function", name, std::move(more)), name, args);
  return rank_api().submit(call.source, nullptr).front();
}

RefPtr create_actor(const std::string& name, const Passed& args) {
  Value::Dict more;
  more.emplace_back(text("descriptor"), Value::Bytes(20));
  more.emplace_back(text("actor_name"), text(""));
  more.emplace_back(text("namespace"), text(""));
  more.emplace_back(text("async"), false);
  more.emplace_back(text("max_concurrency"), std::int64_t{1});
  more.emplace_back(text("groups"), Value::Dict{});
  more.emplace_back(text("max_task_retries"), std::int64_t{0});
  const Call call(spec("class", "actor_class", name, std::move(more)), name, args);
  CallerOptions options;
  options.call.resources.cpus = 0;
  return rank_api().create_actor(call.source, options, {});
}

RefPtr call_method(const RefPtr& actor, const std::string& method, const Passed& args) {
  const auto name = bytes_of(method);
  const Call call(Value::Bytes(name.begin(), name.end()), method, args);
  return rank_api().call(actor, call.source).front();
}

Value get(const RefPtr& reference, Duration timeout) {
  const RefPtr one[] = {reference};
  const auto deadline = timeout == Duration::max() ? kForever : SystemClock::read() + timeout.count();
  auto got = rank_api().get(one, deadline, {});
  if (const auto* error = std::get_if<trireme::detail::ErrorInfo>(&got.front())) trireme::detail::throw_error(*error);
  auto& held = std::get<HeldValue>(got.front());
  // The value keeps its place, and so do the arrays in it.
  return read_value(held.blob, held.keep);
}

bool is_ready(const RefPtr& reference) { return reference->ready(); }
void kill(const RefPtr& actor) { rank_api().kill(actor, true); }

}  // namespace cross
}  // namespace trireme::python
