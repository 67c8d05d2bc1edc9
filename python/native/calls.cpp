#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/actors.hpp"
#include "core/current.hpp"
#include "core/rank_core.hpp"
#include "python/cross/exported_call.hpp"
#include "python/native/control.hpp"
#include "python/native/requests.hpp"
#include "python/native/work.hpp"
#include "trireme/runtime.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

std::atomic<Pool*> pool_of_process{nullptr};

/// Calls that give several values, by the cells of these, until the last of them is there. Their call, or what is
/// pending for it, keeps them until then.
struct ElementKeys {
  struct Call {
    std::uint64_t key = 0;
    bool of_actor = false;
    std::vector<detail::Cell*> results;
  };
  std::mutex mutex;
  std::unordered_map<const detail::Cell*, std::shared_ptr<const Call>> calls;
  static ElementKeys& instance() {
    static ElementKeys table;
    return table;
  }
};

constexpr unsigned kKeyRankShift = 40;
constexpr std::uint64_t kExportedKey = std::uint64_t{1} << (kKeyRankShift - 1);
bool is_exported(std::uint64_t key) { return (key & kExportedKey) != 0; }

}  // namespace

Pool* the_pool() { return pool_of_process.load(std::memory_order_acquire); }
void set_the_pool(Pool* pool) { pool_of_process.store(pool, std::memory_order_release); }

std::uint64_t draw_key(Rank self) {
  static std::atomic<std::uint64_t> counter{1};
  return (std::uint64_t{self} + 1) << kKeyRankShift | counter.fetch_add(1, std::memory_order_relaxed);
}

Rank rank_of_key(std::uint64_t key) { return static_cast<Rank>((key >> kKeyRankShift) - 1); }

std::uint64_t draw_exported_key(Rank self) { return draw_key(self) | kExportedKey; }

void apply(CallKindView& kind, const CallOptions& options) {
  kind.placed = options.placed();
  kind.cpus = options.resources.cpus.value_or(1);
  kind.gpus = options.resources.gpus;
  kind.max_retries = options.max_retries;
}

void apply(CallText& text, const CallOptions& options) {
  const auto before = text.kind;
  auto kind = before->view();
  apply(kind, options);
  text.kind = CallKind::of(kind);
}

// --- Placement groups

GroupTable& GroupTable::instance() {
  static GroupTable table;
  return table;
}
ObjectId GroupTable::add(const PlacementGroup& group) {
  const auto place = group.on();
  const ObjectId id{place.group_owner, place.group};
  const std::lock_guard lock(mutex_);
  groups_.insert_or_assign(id, group);
  return id;
}
void GroupTable::remove(ObjectId id) {
  std::optional<PlacementGroup> gone;
  const std::lock_guard lock(mutex_);
  const auto at = groups_.find(id);
  if (at == groups_.end()) return;
  gone = at->second;
  groups_.erase(at);
  gone->remove();
}
void GroupTable::clear() {
  std::map<ObjectId, PlacementGroup> gone;
  const std::lock_guard lock(mutex_);
  gone.swap(groups_);
}

void enable_cancelling(core::RankCore& core, Pool& pool) {
  core.cancels().here = [&pool](std::uint64_t key, core::CancelOptions options) {
    return is_exported(key) ? cross::running_exported().cancel(key) : pool.cancel(key, options);
  };
  core.cancels().result = [](const CellRef& result, core::CancelOptions options) { cancel_result(result, options); };
  core.membership().note = [&pool] {
    Bytes note;
    Writer out(note);
    out.blob(pool.cancelled_keys());
    out.blob(cross::running_exported().note());
    return note;
  };
  core.on_note = [&pool](BytesView note) {
    Reader in(note);
    const auto calls = in.blob();
    const auto exported = in.blob();
    if (!in.done()) return;
    pool.hear_cancelled(calls);
    cross::running_exported().hear(exported);
  };
}

// --- Calls

std::uint64_t key_of_result(detail::Cell* result) {
  if (const auto* body = body_of_result(result)) return body->text.key;
  if (const auto key = cross::key_of_exported(result)) return key;
  auto& table = ElementKeys::instance();
  const std::lock_guard lock(table.mutex);
  const auto at = table.calls.find(result);
  return at == table.calls.end() ? 0 : at->second->key;
}

bool makes_by_actor_call(detail::Cell* result) {
  if (body_of_result(result) != nullptr) return result->kind() == detail::CellKind::call;
  auto& table = ElementKeys::instance();
  const std::lock_guard lock(table.mutex);
  const auto at = table.calls.find(result);
  return at != table.calls.end() && at->second->of_actor;
}

void cancel_result(const CellRef& result, core::CancelOptions options) {
  if (result->ready()) return;
  auto& cancels = core::current().cancels();
  std::uint64_t key = 0;
  std::vector<CellRef> cells;
  if (const auto* body = body_of_result(result.get())) {
    key = body->text.key;
    cells.push_back(result);
  } else if ((key = cross::key_of_exported(result.get())) != 0) {
    cells.push_back(result);
  } else {
    auto& table = ElementKeys::instance();
    const std::lock_guard lock(table.mutex);
    const auto at = table.calls.find(result.get());
    if (at == table.calls.end()) return cancels.at_owner(result, options);
    key = at->second->key;
    for (auto* cell : at->second->results) cells.push_back(CellRef::share(cell));
  }
  if (key == 0) return;
  cancels.everywhere(key, options, [cells = std::move(cells), force = options.force && is_exported(key)](bool found) {
    const auto& context = core::current().context();
    if (!found) return core::cancel_cells(context, cells);
    // Where it is, it ends; but nothing can end a C++ call that does not ask.
    if (force)
      core::cancel_cells(context, cells, "it was cancelled with force; the C++ code of a rank runs to its end");
  });
}

namespace {

MadeCall finish_making(detail::Invocation* invocation, const CallText& text, std::shared_ptr<Stream> stream,
                       std::uint64_t stream_index) {
  MadeCall made;
  auto own = CellRef::adopt(invocation);
  made.stream = std::move(stream);
  made.stream_index = stream_index;
  if (text.kind->returns == 1) {
    made.results.push_back(std::move(own));
    return made;
  }
  detail::attach_elements(invocation);
  made.results = invocation->extra->elements;
  auto call = std::make_shared<ElementKeys::Call>();
  call->key = text.key;
  call->of_actor = invocation->kind() == detail::CellKind::call;
  for (const auto& element : made.results) call->results.push_back(element.get());
  auto& table = ElementKeys::instance();
  {
    const std::lock_guard lock(table.mutex);
    for (const auto* cell : call->results) table.calls[cell] = call;
  }
  // Not the call's own: when it goes to another rank, that one is gone without being completed.
  when_ready(made.results.back(), [call] {
    auto& calls = ElementKeys::instance();
    const std::lock_guard lock(calls.mutex);
    for (const auto* cell : call->results) calls.calls.erase(cell);
  });
  return made;
}

std::shared_ptr<Stream> make_stream(CallText& text, std::int64_t limit, std::uint64_t& index) {
  if (limit < 0) return nullptr;
  auto stream = std::make_shared<Stream>(static_cast<std::uint64_t>(limit));
  index = StreamTable::instance().add(stream);
  const auto before = text.kind;
  auto kind = before->view();
  kind.streaming = true;
  kind.returns = 1;
  kind.stream = {core::current().context().self, index};
  text.kind = CallKind::of(kind);
  return stream;
}

}  // namespace

MadeCall prepare_task(CallText text, std::vector<CellRef> refs, std::int64_t streaming, detail::TaskBase*& task) {
  std::uint64_t index = 0;
  auto stream = make_stream(text, streaming, index);
  task = make_task(std::move(text), std::move(refs));
  return finish_making(task, body_of(task).text, std::move(stream), index);
}

MadeCall prepare_call(CallText text, std::vector<CellRef> refs, std::int64_t streaming, detail::CallBase*& call) {
  std::uint64_t index = 0;
  auto stream = make_stream(text, streaming, index);
  call = make_call(std::move(text), std::move(refs));
  return finish_making(call, body_of(call).text, std::move(stream), index);
}

void submit_prepared(Pool& pool, detail::TaskBase* task, const CallOptions& options) {
  constexpr int kDefaultRetries = 3;
  const int retries = options.max_retries < 0 ? INT32_MAX : options.max_retries;
  if (options.placed()) {
    TaskOptions placed;
    placed.resources = options.resources;
    placed.placement = options.placement;
    placed.max_retries = retries;
    return detail::submit_placed(task, placed);
  }
  auto& core = core::current();
  if (core.cluster().total(core.context().self).cpu_units() == 0) {
    // Nothing runs here for want of CPUs, and nothing is stolen from where no thread queues it.
    CallOptions elsewhere = options;
    elsewhere.placement.kind = Placement::Kind::spread;
    apply(body_of(task).text, elsewhere);
    return submit_prepared(pool, task, elsewhere);
  }
  if (retries != kDefaultRetries) {
    if (task->extra == nullptr) task->extra = new detail::Invocation::Extra;
    task->extra->options.max_retries = retries;
  }
  if (!core.wait_for_arguments(task)) pool.submit(task);
}

namespace {

ActorOptions placed_as(const CallOptions& options) {
  ActorOptions placed;
  placed.resources = options.resources;
  placed.placement = options.placement;
  placed.name = options.name;
  placed.detached = options.detached;
  return placed;
}

}  // namespace

CellRef create_python_actor(CallText text, std::vector<CellRef> refs, const CallOptions& options) {
  const auto key = text.key;
  auto actor = detail::spawn_actor(make_create(std::move(text), std::move(refs)), placed_as(options), kActorType);
  auto& core = core::current();
  core::post(*core.context().host,
             [&core, actor, key] { ActorTable::instance().add(key, core.refs().export_cell(actor.get()).id); });
  return actor;
}

void create_named_actor(CallText text, std::vector<CellRef> refs, const CallOptions& options,
                        std::function<void(CellRef, const detail::ErrorInfo*)> then) {
  const auto key = text.key;
  auto* create = make_create(std::move(text), std::move(refs));
  // The construction's own cell is nobody's result.
  const auto own = CellRef::adopt(create);
  auto& core = core::current();
  core.actors().spawn_named(core.names(), create, placed_as(options), kActorType,
                            [&core, key, then = std::move(then)](CellRef actor, const detail::ErrorInfo* error) {
                              if (actor) ActorTable::instance().add(key, core.refs().export_cell(actor.get()).id);
                              then(std::move(actor), error);
                            });
}

std::string describe_ranks(core::Session& session) {
  auto& core = session.core();
  auto list = nlohmann::json::array();
  const auto amounts = [](const scheduler::Resources& resources) {
    constexpr double kUnit = scheduler::Resources::kUnit;
    nlohmann::json object;
    object["CPU"] = static_cast<double>(resources.cpu_units()) / kUnit;
    if (resources.gpu_units() != 0) object["GPU"] = static_cast<double>(resources.gpu_units()) / kUnit;
    object["memory"] = resources.memory_bytes();
    for (const auto& [name, units] : resources.custom()) object[name] = static_cast<double>(units) / kUnit;
    return object;
  };
  for (const auto& member : session.members()) {
    // Nobody is there yet, or not everybody knows it.
    if (member.rank == kNoRank || core.cluster().comes(member.rank)) continue;
    nlohmann::json row;
    row["rank"] = member.rank;
    row["alive"] = core.context().alive(member.rank);
    row["node"] = member.node_id;
    row["host"] = member.host;
    row["pid"] = member.pid;
    const auto& total = core.cluster().total(member.rank);
    row["cpus"] = static_cast<double>(total.cpu_units()) / scheduler::Resources::kUnit;
    row["total"] = amounts(total);
    row["available"] =
        amounts(member.rank == core.context().self ? core.pool().available() : core.cluster().available(member.rank));
    row["labels"] = core.cluster().labels(member.rank);
    list.push_back(std::move(row));
  }
  return list.dump();
}

}  // namespace trireme::python
