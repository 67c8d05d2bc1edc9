#include "python/native/rank_api.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <deque>

#include "core/actors.hpp"
#include "core/current.hpp"
#include "core/session.hpp"
#include "python/cross/calls.hpp"
#include "python/native/control.hpp"
#include "python/native/gathering.hpp"
#include "python/native/objects.hpp"
#include "python/native/pool.hpp"
#include "python/native/rank_references.hpp"
#include "python/native/requests.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

/// How often a blocked call looks for signals.
constexpr Nanos kCheckEvery = 50 * kMillisecond;

std::vector<CellRef> cells_of(std::span<const RefPtr> refs) {
  std::vector<CellRef> cells;
  cells.reserve(refs.size() + 1);
  for (const auto& ref : refs) cells.push_back(cell_of(ref));
  return cells;
}

class RankApiImpl final : public RankApi {
 public:
  ~RankApiImpl() override { stop(); }
  void open(const RankOptions& options);

  Rank rank() const override { return rank_; }
  std::uint32_t size() const override { return size_; }
  std::vector<RefPtr> submit(const CallSource& call, const CallerOptions* options) override;
  RefPtr create_actor(const CallSource& call, const CallerOptions& options, const Check& interrupted) override;
  std::vector<RefPtr> call(const RefPtr& actor, const CallSource& call) override;
  RefPtr cpp_submit(const CppSource& call, const CallerOptions* options) override;
  RefPtr cpp_create(const CppSource& call, const CallerOptions& options, int max_concurrency) override;
  RefPtr cpp_call(const RefPtr& actor, const CppSource& call) override;
  RefPtr put(const ValueSource& value, const Check& interrupted) override;
  std::vector<Got> get(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) override;
  bool settles() const override { return true; }
  void settle(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) override;
  std::vector<bool> wait(std::span<const RefPtr> refs, std::size_t count, Nanos deadline,
                         const Check& interrupted) override;
  void watch(const RefPtr& ref, std::uint64_t token) override;
  std::vector<std::uint64_t> next_watched(const Check& interrupted) override;
  RefPtr stream_next(const RefPtr& stream) override;
  void kill(const RefPtr& actor, bool no_restart) override;
  RefPtr find_actor(const std::string& name, const Check& interrupted) override;
  void cancel(const RefPtr& ref, bool force, bool recursive) override;
  std::int64_t actor_rank(const RefPtr& actor, const Check& interrupted) override;
  std::optional<detail::ErrorInfo> failure(const RefPtr& ref, const Check& interrupted) override;
  ObjectId identify(const RefPtr& ref, const Check& interrupted) override;
  void export_blob(BytesView key, BytesView blob) override;
  Bytes imported(Rank rank, BytesView key, const Check& interrupted) override;
  GroupHandle create_group(GroupStrategy strategy, const std::vector<Resources>& bundles, const GroupLabels& labels,
                           const Check& interrupted) override;
  void remove_group(ObjectId id) override { GroupTable::instance().remove(id); }
  std::string ranks(const Check& interrupted) override;
  std::string objects(const Check& interrupted) override;
  void serve(const Check& interrupted) override;
  void stop() override;
  std::vector<LogLine> next_logs() override { return logs_->next_logs(); }

 private:
  core::Host& host() { return session_->host(); }
  void need_running() const {
    if (stopped_) throw Exception(ended());
  }
  static detail::ErrorInfo ended() {
    detail::ErrorInfo error;
    error.code = Errc::shutdown;
    error.message = "the runtime has been shut down";
    return error;
  }
  void wait_at(Gathering& gathering, Nanos deadline, const Check& interrupted);
  detail::Value store(const ValueSource& value);
  cross::ExportedCall exported_call(const CppSource& source);
  CallText text_of(const CallSource& call, const CallerOptions* options, std::vector<CellRef>& refs);
  std::vector<RefPtr> wrap_call(MadeCall made);
  static Got got(const CellRef& cell);
  template <class F>
  void ask(F start);

  std::unique_ptr<core::Session> session_;
  std::unique_ptr<Pool> pool_;
  Pool* logs_ = nullptr;
  Rank rank_ = 0;
  std::uint32_t size_ = 1;
  bool stopped_ = false;
  std::shared_ptr<Arrivals> arrivals_ = std::make_shared<Arrivals>();
  std::mutex watched_mutex_;
  std::condition_variable watched_ready_;
  std::vector<std::uint64_t> watched_;
  std::shared_ptr<bool> open_ = std::make_shared<bool>(true);  // under watched_mutex_
};

template <class F>
void RankApiImpl::ask(F start) {
  scheduler::WaitPoint point;
  core::post(host(), [&] { start([&point] { point.signal(); }); });
  host().wait(point, kForever);
}

void RankApiImpl::open(const RankOptions& options) {
  static std::atomic<std::uint32_t> sessions{0};
  Holds::session.store(sessions.fetch_add(1) + 1, std::memory_order_release);
  if (core::current_or_null() != nullptr) {
    auto error = invalid("this process has a runtime already: shut it down before another is started");
    error.code = Errc::already_exists;
    throw Exception(std::move(error));
  }
  const auto raise = [](const Error& error) {
    detail::ErrorInfo info;
    info.code = error.code;
    info.message = error.message;
    throw Exception(std::move(info));
  };
  auto bootstrap = transport::bootstrap_detect();
  if (!bootstrap) raise(bootstrap.error());
  RuntimeOptions runtime;
  runtime.threads = options.threads;
  runtime.arena_bytes = options.arena_bytes;
  runtime.gpus = options.gpus;
  runtime.resources = options.resources;
  runtime.labels = options.labels;
  runtime = core::environment_options(std::move(runtime));
  // Python's processes share the cores with the compute threads: the kernel places both.
  runtime.pin = false;
  Status opened;
  auto session = core::Session::start(**bootstrap, runtime, [&](core::Session& made) {
    Pool::Options pool;
    const auto& total = made.core().cluster().total(made.rank());
    pool.cpus = static_cast<unsigned>(std::max<std::int64_t>(total.cpu_units() / scheduler::Resources::kUnit, 1));
    pool.gpus = static_cast<unsigned>(std::ceil(static_cast<double>(total.gpu_units()) / scheduler::Resources::kUnit));
    pool.zygote_fd = options.zygote_fd;
    pool.prestart = options.prestart < 0 ? pool.cpus : static_cast<unsigned>(options.prestart);
    pool_ = std::make_unique<Pool>(made, pool);
    logs_ = pool_.get();
    opened = pool_->open();
    made.core().attach(pool_.get());
    enable_cancelling(made.core(), *pool_);
    serve_control(made.core(), *pool_);
    made.core().context().starters = starters();
    made.host().side = pool_.get();
    made.on_leave = [this] { pool_->close(); };
    set_runner(pool_.get());
    set_the_pool(pool_.get());
  });
  if (!session) raise(session.error());
  session_ = std::move(*session);
  rank_ = session_->rank();
  size_ = session_->core().context().size;
  if (!opened.ok()) raise(opened.error());
}

void RankApiImpl::wait_at(Gathering& gathering, Nanos deadline, const Check& interrupted) {
  while (!gathering.point.signalled()) {
    const auto now = SystemClock::read();
    if (now >= deadline) return;
    const auto until = interrupted ? std::min(deadline, now + kCheckEvery) : deadline;
    // Who fires wakes the sleeper through the pool or through the point, whichever it sleeps at.
    if (!pool_->wait_for_workers(gathering.fired, until) && host().wait(gathering.point, until)) return;
    if (gathering.fired.load(std::memory_order_acquire)) {
      while (!gathering.point.signalled()) ::sched_yield();  // it is about to be
      return;
    }
    if (interrupted && interrupted()) throw Interrupted{};
  }
}

detail::Value RankApiImpl::store(const ValueSource& value) {
  std::vector<std::uint64_t> sizes;
  sizes.reserve(value.buffers.size());
  for (const auto& buffer : value.buffers) sizes.push_back(buffer.size());
  const auto layout = layout_of(value.data.size(), sizes);
  detail::Value stored;
  if (layout.total <= kInlineBytesMax) {
    stored.bytes.resize(layout.total);
    pack(layout, value.data, value.buffers, stored.bytes);
  } else {
    stored.buffer = detail::allocate_buffer(layout.total);
    pack(layout, value.data, value.buffers, {stored.buffer.data.get(), layout.total});
  }
  return stored;
}

CallText RankApiImpl::text_of(const CallSource& call, const CallerOptions* options, std::vector<CellRef>& refs) {
  CallText text;
  text.deps = call.deps;
  text.key = draw_key(rank());
  refs = cells_of(call.args.refs);
  auto args = store(call.args);
  if (args.buffer) {
    auto object = detail::make_plain_cell();
    object->complete(std::move(args));
    refs.insert(refs.begin(), std::move(object));
    text.args_ref = true;
    ++text.deps;
  } else {
    text.args = std::move(args.bytes);
  }
  auto kind = kind_of(call, options);
  if (options != nullptr) apply(kind, options->call);
  text.kind = CallKind::of(kind);
  return text;
}

std::vector<RefPtr> RankApiImpl::wrap_call(MadeCall made) {
  std::vector<RefPtr> refs;
  refs.reserve(made.results.size() + 1);
  if (made.stream) made.stream->watch_end(made.results.front());
  for (auto& result : made.results) refs.push_back(reference_of(std::move(result)));
  if (made.stream) refs.push_back(std::make_shared<StreamReference>(std::move(made.stream), made.stream_index));
  return refs;
}

std::vector<RefPtr> RankApiImpl::submit(const CallSource& call, const CallerOptions* options) {
  need_running();
  static const CallOptions kPlain;
  std::vector<CellRef> refs;
  auto text = text_of(call, options, refs);
  detail::TaskBase* task = nullptr;
  auto made = prepare_task(std::move(text), std::move(refs), call.streaming, task);
  submit_prepared(*pool_, task, options != nullptr ? options->call : kPlain);
  return wrap_call(std::move(made));
}

RefPtr RankApiImpl::create_actor(const CallSource& call, const CallerOptions& options, const Check&) {
  need_running();
  std::vector<CellRef> refs;
  auto text = text_of(call, &options, refs);
  return reference_of(create_python_actor(std::move(text), std::move(refs), options.call));
}

std::vector<RefPtr> RankApiImpl::call(const RefPtr& actor, const CallSource& source) {
  need_running();
  const auto& target = cell_of(actor);
  if (target->kind() != detail::CellKind::actor) throw Exception(invalid("the reference is no actor's"));
  std::vector<CellRef> refs;
  auto text = text_of(source, nullptr, refs);
  const bool deps = text.deps != 0;
  detail::CallBase* call = nullptr;
  auto made = prepare_call(std::move(text), std::move(refs), source.streaming, call);
  detail::call_actor(target, call, deps);
  return wrap_call(std::move(made));
}

cross::ExportedCall RankApiImpl::exported_call(const CppSource& source) {
  need_running();
  return {std::string(source.library),
          std::string(source.name),
          {store(source.args)},
          cells_of(source.deps),
          draw_exported_key(rank())};
}

RefPtr RankApiImpl::cpp_submit(const CppSource& call, const CallerOptions* options) {
  auto* task = cross::make_exported_task(exported_call(call));
  auto result = CellRef::adopt(task);
  cross::submit_exported(task, options != nullptr ? &options->call : nullptr);
  return reference_of(std::move(result));
}

RefPtr RankApiImpl::cpp_create(const CppSource& call, const CallerOptions& options, int max_concurrency) {
  return reference_of(cross::create_exported(exported_call(call), options.call, max_concurrency).cell());
}

RefPtr RankApiImpl::cpp_call(const RefPtr& actor, const CppSource& call) {
  const auto& target = cell_of(actor);
  if (target->kind() != detail::CellKind::actor) throw Exception(invalid("the reference is no actor's"));
  auto* made = cross::make_exported_call(exported_call(call));
  auto result = CellRef::adopt(made);
  cross::call_exported(target, made);
  return reference_of(std::move(result));
}

RefPtr RankApiImpl::put(const ValueSource& value, const Check&) {
  need_running();
  auto stored = store(value);
  stored.refs = cells_of(value.refs);
  auto cell = detail::make_plain_cell();
  cell->complete(std::move(stored));
  return reference_of(std::move(cell));
}

Got RankApiImpl::got(const CellRef& cell) {
  if (!cell->ready()) return {};
  if (cell->form() == detail::CellForm::error) return cell->error();
  HeldValue held;
  if (cell->form() == detail::CellForm::encoded && cell->value().lazy == detail::Value::Lazy::no) {
    // The cell keeps its own bytes.
    held.blob = cell->value().view();
    held.keep = value_of(cell);
    held.refs = references_of(cell->value().refs);
    return held;
  }
  auto pin = std::make_shared<PinnedValue>();
  try {
    pin->value = cell->form() == detail::CellForm::typed ? cell->ops()->encode(cell.get()) : detail::pinned(cell.get());
  } catch (const Exception& lost) {
    return lost.info();
  }
  held.blob = pin->value.view();
  held.refs = references_of(pin->value.refs);
  held.keep = std::move(pin);
  return held;
}

void RankApiImpl::settle(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) {
  need_running();
  bool ready = true;
  bool failed = false;
  for (const auto& ref : refs) {
    const auto& cell = cell_of(ref);
    const bool here = cell->ready();
    ready = ready && here;
    failed = failed || (here && cell->form() == detail::CellForm::error);
  }
  if (ready || failed) return;
  auto gathering = std::make_shared<Gathering>();
  gathering->left.store(static_cast<std::int64_t>(refs.size()), std::memory_order_relaxed);
  for (const auto& ref : refs) {
    const auto& cell = cell_of(ref);
    when_ready(cell, [gathering, raw = cell.get()] {
      const bool error = raw->form() == detail::CellForm::error;
      if (gathering->left.fetch_sub(1, std::memory_order_acq_rel) == 1 || error) gathering->fire();
    });
  }
  wait_at(*gathering, deadline, interrupted);
  if (gathering->point.signalled()) return;
  const auto missing = std::count_if(refs.begin(), refs.end(), [](const RefPtr& r) { return !r->ready(); });
  detail::ErrorInfo error;
  error.code = Errc::timeout;
  error.message = fmt::format("{} of {} values were not there in time", missing, refs.size());
  throw TimeoutError(std::move(error));
}

std::vector<Got> RankApiImpl::get(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) {
  settle(refs, deadline, interrupted);
  std::vector<Got> values;
  values.reserve(refs.size());
  for (const auto& ref : refs) values.push_back(got(cell_of(ref)));
  return values;
}

std::vector<bool> RankApiImpl::wait(std::span<const RefPtr> refs, std::size_t count, Nanos deadline,
                                    const Check& interrupted) {
  need_running();
  count = std::min(count, refs.size());
  const auto missing = [&] {
    std::size_t ready = 0;
    for (const auto& ref : refs) ready += ref->ready() ? 1U : 0U;
    return static_cast<std::int64_t>(count) - static_cast<std::int64_t>(ready);
  };
  if (missing() > 0) {
    for (const auto& ref : refs) {
      const auto& cell = cell_of(ref);
      if (cell->ready() || static_cast<CellReference&>(*ref).heard()) continue;
      when_ready(cell, [arrivals = arrivals_] { arrivals->one(); });
    }
    for (;;) {
      Gathering gathering;
      Arrivals::Listening listening(*arrivals_, gathering);
      const auto left = missing();
      if (left <= 0) break;
      // What arrives need not be of these: then there is another round.
      gathering.left.store(left, std::memory_order_relaxed);
      listening.begin();
      if (missing() < left) continue;
      wait_at(gathering, deadline, interrupted);
      if (!gathering.point.signalled()) break;
    }
  }
  std::vector<bool> result;
  result.reserve(refs.size());
  for (const auto& ref : refs) result.push_back(ref->ready());
  return result;
}

void RankApiImpl::watch(const RefPtr& ref, std::uint64_t token) {
  need_running();
  when_ready(cell_of(ref), [this, token, open = open_] {
    const std::lock_guard lock(watched_mutex_);
    if (!*open) return;
    watched_.push_back(token);
    watched_ready_.notify_one();
  });
}

std::vector<std::uint64_t> RankApiImpl::next_watched(const Check&) {
  std::unique_lock lock(watched_mutex_);
  watched_ready_.wait(lock, [this] { return !watched_.empty() || !*open_; });
  return std::exchange(watched_, {});
}

RefPtr RankApiImpl::stream_next(const RefPtr& stream) {
  need_running();
  const auto* held = dynamic_cast<const StreamReference*>(stream.get());
  if (held == nullptr) throw Exception(invalid("the reference is no stream's"));
  return reference_of(held->consumer->next());
}

void RankApiImpl::kill(const RefPtr& actor, bool no_restart) {
  need_running();
  const auto& cell = cell_of(actor);
  if (cell->kind() != detail::CellKind::actor) throw Exception(invalid("the reference is no actor's"));
  no_restart ? detail::kill_actor(cell) : restart_everywhere(session_->core(), *pool_, cell);
}

RefPtr RankApiImpl::find_actor(const std::string& name, const Check&) {
  need_running();
  CellRef found;
  std::unique_ptr<detail::ErrorInfo> failed;
  ask([&](auto done) {
    session_->core().names().get(name, kActorType, [&, done](CellRef actor, const detail::ErrorInfo* error) {
      if (error != nullptr) failed = std::make_unique<detail::ErrorInfo>(*error);
      found = std::move(actor);
      done();
    });
  });
  if (failed && failed->code != Errc::not_found) throw Exception(*failed);
  return failed ? nullptr : reference_of(std::move(found));
}

void RankApiImpl::cancel(const RefPtr& ref, bool force, bool recursive) {
  need_running();
  cancel_result(cell_of(ref), {force, recursive});
}

std::int64_t RankApiImpl::actor_rank(const RefPtr& actor, const Check& interrupted) {
  need_running();
  const RefPtr one[] = {actor};
  wait(one, 1, kForever, interrupted);
  const auto& cell = cell_of(actor);
  if (cell->form() == detail::CellForm::error) detail::throw_error(cell->error());
  Rank rank = kNoRank;
  std::memcpy(&rank, cell->value().view().data(), sizeof rank);
  return rank;
}

std::optional<detail::ErrorInfo> RankApiImpl::failure(const RefPtr& ref, const Check&) {
  const auto& cell = cell_of(ref);
  if (!cell->ready() || cell->form() != detail::CellForm::error) return std::nullopt;
  return cell->error();
}

ObjectId RankApiImpl::identify(const RefPtr& ref, const Check&) {
  need_running();
  const auto& cell = cell_of(ref);
  ObjectId id;
  ask([&](auto done) {
    id = session_->core().refs().export_cell(cell.get()).id;
    done();
  });
  return id;
}

void RankApiImpl::export_blob(BytesView key, BytesView blob) {
  ExportTable::instance().set(std::string(reinterpret_cast<const char*>(key.data()), key.size()),
                              Bytes(blob.begin(), blob.end()));
}

Bytes RankApiImpl::imported(Rank from, BytesView key, const Check& interrupted) {
  need_running();
  const std::string name(reinterpret_cast<const char*>(key.data()), key.size());
  if (auto blob = ExportTable::instance().find(name)) return *blob;
  if (from >= size() || from == rank()) {
    auto error = invalid(fmt::format("rank {} exported no function under that key", from));
    error.code = Errc::not_found;
    throw Exception(std::move(error));
  }
  // Whoever is interrupted leaves the cell behind.
  const auto fetched = detail::make_plain_cell();
  fetch_export(session_->core(), from, name, [fetched](const ExportTable::Blob& blob, const detail::ErrorInfo* error) {
    if (error != nullptr) return fetched->complete_error(*error);
    detail::Value value;
    value.bytes = *blob;
    fetched->complete(std::move(value));
  });
  const RefPtr one[] = {reference_of(fetched)};
  wait(one, 1, kForever, interrupted);
  if (fetched->form() == detail::CellForm::error) detail::throw_error(fetched->error());
  const auto blob = fetched->value().view();
  return {blob.begin(), blob.end()};
}

GroupHandle RankApiImpl::create_group(GroupStrategy strategy, const std::vector<Resources>& bundles,
                                      const GroupLabels& labels, const Check&) {
  need_running();
  const PlacementGroup group(strategy, bundles, labels);
  return {reference_of(group.ready().cell()), GroupTable::instance().add(group)};
}

std::string RankApiImpl::ranks(const Check&) {
  need_running();
  std::string text;
  ask([&](auto done) {
    text = describe_ranks(*session_);
    done();
  });
  return text;
}

std::string RankApiImpl::objects(const Check&) {
  need_running();
  std::string text;
  ask([&](auto done) {
    text = describe_objects(*session_, *pool_);
    done();
  });
  return text;
}

void RankApiImpl::serve(const Check&) {
  session_->serve();
  stop();
}

void RankApiImpl::stop() {
  if (std::exchange(stopped_, true) || !session_) return;
  GroupTable::instance().clear();
  ExportTable::instance().clear();
  session_->stop();
  set_runner(nullptr);
  set_the_pool(nullptr);
  {
    const std::lock_guard lock(watched_mutex_);
    *open_ = false;
    watched_ready_.notify_all();
  }
  // From here on what is held is not given back to this runtime.
  Holds::session.store(0, std::memory_order_release);
  HeldCell::leave_all();
  if (Holds::count.exchange(0, std::memory_order_acquire) != 0) {
    session_->abandon_memory();
  } else {
    session_->arena().close_file();
  }
  // This object may live on in a traceback, say.
  pool_->close_descriptors();
}

}  // namespace

std::unique_ptr<RankApi> RankApi::create(const RankOptions& options) {
  auto api = std::make_unique<RankApiImpl>();
  api->open(options);
  return api;
}

}  // namespace trireme::python
