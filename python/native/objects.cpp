#include "python/native/objects.hpp"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/session.hpp"
#include "python/native/pool.hpp"
#include "scheduler/executor_queue.hpp"

namespace trireme::python {

using detail::Cell;
using detail::CellForm;
using detail::CellKind;
using detail::CellRef;

namespace {

scheduler::SpinLock held_lock;
HeldCell* held_first = nullptr;

/// How one process holds one cell.
struct Hold {
  CellRef cell;
  int pid = 0;
  bool worker = true;
  std::uint64_t references = 0;  ///< 0: only a value of it is read
};

const char* reference_type(const Cell* cell, bool used, std::uint64_t references) {
  if (cell->kind() == CellKind::actor) return "ACTOR_HANDLE";
  if (used) return "USED_BY_PENDING_TASK";
  return references != 0 ? "LOCAL_REFERENCE" : "PINNED_IN_MEMORY";
}

bool waits_for_arguments(Cell* cell) {
  return body_of_result(cell) != nullptr &&
         static_cast<detail::Invocation*>(cell)->deps_left.load(std::memory_order_relaxed) != 0;
}

}  // namespace

void HeldCell::enter(HeldCell* last) {
  if (last == nullptr) return;
  auto* first = last;
  for (;; first = first->before_) {
    first->listed_ = true;
    if (first->before_ == nullptr) break;
    first->before_->next_ = first;
  }
  const std::lock_guard lock(held_lock);
  last->next_ = held_first;
  if (held_first != nullptr) held_first->before_ = last;
  held_first = first;
}

void HeldCell::leave() {
  const std::lock_guard lock(held_lock);
  if (!std::exchange(listed_, false)) return;
  if (next_ != nullptr) next_->before_ = before_;
  (before_ != nullptr ? before_->next_ : held_first) = next_;
}

void HeldCell::leave_all() {
  const std::lock_guard lock(held_lock);
  for (auto* held = held_first; held != nullptr; held = held->next_) held->listed_ = false;
  held_first = nullptr;
}

std::string describe_objects(core::Session& session, Pool& pool) {
  auto& refs = session.core().refs();
  const auto& me = session.members()[session.rank()];
  std::vector<Hold> holds;
  {
    std::unordered_map<Cell*, Hold> mine;
    const std::lock_guard lock(held_lock);
    for (auto* held = held_first; held != nullptr; held = held->next_) {
      auto& hold = mine[held->cell.get()];
      if (!hold.cell) hold = {held->cell, me.pid, false, 0};
      hold.references += held->value_ ? 0U : 1U;
    }
    for (auto& [cell, hold] : mine) holds.push_back(std::move(hold));
  }
  Pool::Calls calls;
  pool.list(
      [&](const Worker& worker) {
        for (const auto& [handle, held] : worker.handles)
          if (held.cell) holds.push_back({held.cell, worker.pid, true, 1});
      },
      calls);

  auto objects = nlohmann::json::array();
  auto tasks = nlohmann::json::array();
  std::set<std::pair<const Cell*, int>> written;
  std::unordered_set<const Cell*> seen;
  const auto status = [&](Cell* cell) -> const char* {
    if (cell->kind() == CellKind::actor) return "NIL";
    if (cell->ready()) {
      if (cell->form() == CellForm::error) return "FAILED";
      return cell->kind() == CellKind::value ? "NIL" : "FINISHED";
    }
    if (const auto at = calls.states.find(cell); at != calls.states.end()) return at->second;
    if (waits_for_arguments(cell)) return "PENDING_ARGS_AVAIL";
    return cell->kind() == CellKind::task ? "PENDING_NODE_ASSIGNMENT" : "SUBMITTED_TO_WORKER";
  };
  const auto row = [&](Cell* cell, ObjectId id, int pid, const char* type, const char* reference) {
    const auto* body = body_of_result(cell);
    // Of a cell that failed there is no size.
    const auto size = cell->ready() && cell->form() == CellForm::error ? 0 : refs.place_of(cell).second;
    objects.push_back({{"id", fmt::format("{:08x}{:016x}", id.owner, id.index)},
                       {"pid", pid},
                       {"type", type},
                       {"size", size},
                       {"task_status", status(cell)},
                       {"reference_type", reference},
                       {"name", body != nullptr ? body->text.kind->name : std::string()}});
  };
  const auto waiting = [&](Cell* cell, const char* state) {
    const auto* body = body_of_result(cell);
    if (body == nullptr || !seen.insert(cell).second) return;
    tasks.push_back({{"key", body->text.key},
                     {"name", body->text.kind->name},
                     {"state", state},
                     {"type", cell->kind() == CellKind::task ? "NORMAL_TASK" : "ACTOR_TASK"}});
  };
  for (const auto& hold : holds) {
    if (!written.emplace(hold.cell.get(), hold.pid).second) continue;
    const bool used = calls.used.contains(hold.cell.get());
    const bool driver = !hold.worker && session.rank() == 0;
    row(hold.cell.get(), refs.export_cell(hold.cell.get()).id, hold.pid, driver ? "DRIVER" : "WORKER",
        reference_type(hold.cell.get(), used, hold.references));
    if (!hold.cell->ready() && !calls.states.contains(hold.cell.get()) && waits_for_arguments(hold.cell.get()))
      waiting(hold.cell.get(), "PENDING_ARGS_AVAIL");
  }
  for (auto& call : calls.queued)
    if (!call->ready()) waiting(call.get(), "PENDING_NODE_ASSIGNMENT");
  std::unordered_set<const Cell*> known;
  for (const auto& hold : holds) known.insert(hold.cell.get());
  refs.each_owned([&](const detail::Entry& entry) {
    if (known.contains(entry.cell)) return;
    const bool used = calls.used.contains(entry.cell);
    const auto* reference = used                   ? "USED_BY_PENDING_TASK"
                            : entry.grants.empty() ? "UNKNOWN_STATUS"
                                                   : "PINNED_IN_MEMORY";
    row(entry.cell, entry.id, me.pid, session.rank() == 0 ? "DRIVER" : "WORKER",
        entry.cell->kind() == CellKind::actor ? "ACTOR_HANDLE" : reference);
  });
  return nlohmann::json{{"objects", std::move(objects)}, {"tasks", std::move(tasks)}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace trireme::python
