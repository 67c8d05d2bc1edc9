#include "core/refs.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/detail/invocation.hpp"

namespace trireme::core {

namespace {

void add_to(std::vector<std::pair<Rank, std::uint32_t>>& list, Rank rank, std::uint32_t count) {
  for (auto& [r, n] : list) {
    if (r == rank) {
      n += count;
      return;
    }
  }
  list.emplace_back(rank, count);
}

/// Returns how many there were to take.
std::uint32_t take_from(std::vector<std::pair<Rank, std::uint32_t>>& list, Rank rank, std::uint32_t count_max) {
  const auto at = std::find_if(list.begin(), list.end(), [&](const auto& item) { return item.first == rank; });
  if (at == list.end()) return 0;
  const auto taken = std::min(at->second, count_max);
  at->second -= taken;
  if (at->second == 0) {
    std::swap(list.back(), *at);
    list.pop_back();
  }
  return taken;
}

bool contains(const std::vector<std::pair<Rank, std::uint32_t>>& list, Rank rank) {
  return std::any_of(list.begin(), list.end(), [&](const auto& item) { return item.first == rank; });
}

bool is_actor(const Entry& entry) { return entry.cell->kind() == detail::CellKind::actor; }

}  // namespace

Refs::~Refs() {
  held_.clear();
  // What is left at the end of the job: the cells' memory goes, without messages.
  for (auto& [id, entry] : entries_) {
    entry->contained.clear();
    entry->encoded.reset();
  }
}

Entry& Refs::make_entry(ObjectId id, Cell* cell, bool owned) {
  auto* entry = new Entry;
  entry->id = id;
  entry->cell = cell;
  entry->owned = owned;
  entry->released.entry = entry;
  entry->released.context = &context_;
  entry->released.run = [](scheduler::Command* command) {
    auto* link = static_cast<Entry::Link*>(command);
    link->refs->on_released(*link->entry);
  };
  entry->released.refs = this;
  entry->became_ready.entry = entry;
  entry->became_ready.context = &context_;
  entry->became_ready.refs = this;
  entry->became_ready.run = [](scheduler::Command* command) {
    auto* link = static_cast<Entry::Link*>(command);
    link->refs->on_became_ready(*link->entry);
  };
  entry->watcher.entry = entry;
  entry->watcher.fire = [](detail::Waiter* waiter) {
    auto* e = static_cast<Entry::Watcher*>(waiter)->entry;
    // Given up by complete_located(): then only protocol code completes the cell, and has told everybody.
    if (!e->watch) return;
    e->became_ready.context->host->post(&e->became_ready);
  };
  entries_.emplace(id, entry);
  cell->set_entry(entry);
  // Pairs with on_ready() and InOrder: a waiter adds itself, then looks at exported(); here exported is set, then
  // waiters are looked for. One of the two sees the other.
  entry->wanted = cell->wanted();
  return *entry;
}

Entry& Refs::export_cell(Cell* cell) {
  if (auto* known = cell->entry()) return *known;
  return make_entry(new_id(), cell, true);
}

CellRef Refs::handle(Entry& entry) {
  if (entry.cell->retain_counted() == 0) {
    ++entry.lives;
    entry.local = true;
  }
  return CellRef::adopt(entry.cell);
}

Entry* Refs::find(ObjectId id) {
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : at->second;
}

void Refs::grant(Entry& entry, Rank to) {
  if (to == context_.self || !context_.alive(to)) return;
  add_to(entry.grants, to, 1);
  entry.given = true;
}

Refs::Right Refs::right(Rank rank, ObjectId id, bool actor) const {
  if (const auto at = entries_.find(id);
      at != entries_.end() && is_actor(*at->second) == actor && contains(at->second->grants, rank))
    return Right::use;
  const auto at = void_loans_.find(id);
  return at != void_loans_.end() && contains(at->second, rank) ? Right::nothing : Right::none;
}

std::uint32_t Refs::end_void_loans(ObjectId id, Rank borrower, std::uint32_t count_max) {
  const auto at = void_loans_.find(id);
  if (at == void_loans_.end()) return 0;
  const auto ended = take_from(at->second, borrower, count_max);
  if (at->second.empty()) void_loans_.erase(at);
  return ended;
}

const Value* Refs::small_value(Cell* cell, Value& room) {
  if (!cell->ready() || cell->kind() == detail::CellKind::actor) return nullptr;
  const Value* value = nullptr;
  if (cell->form() == detail::CellForm::encoded) {
    value = &cell->value();
  } else if (cell->form() == detail::CellForm::typed) {
    if (auto* entry = cell->entry(); entry != nullptr && entry->encoded) {
      value = entry->encoded.get();
    } else {
      room = cell->ops()->encode(cell);
      value = &room;
    }
  }
  if (value == nullptr) return nullptr;
  if (value->lazy == Value::Lazy::no && !value->buffer && value->bytes.size() <= detail::kValueInPlaceMax) return value;
  // Kept for whoever asks for it.
  if (value == &room) export_cell(cell).encoded = std::make_unique<Value>(std::move(room));
  return nullptr;
}

void Refs::write(Writer& out, std::span<const CellRef> refs, Rank to, std::size_t arguments) {
  out.varint(refs.size());
  for (const auto& ref : refs) {
    if (arguments > 0) {
      --arguments;
      Value room;
      if (const auto* value = small_value(ref.get(), room)) {
        out.id({0, 0});
        out.blob(value->bytes);
        write(out, value->refs, to);
        continue;
      }
    }
    auto& entry = export_cell(ref.get());
    out.id(entry.id);
    const bool actor = ref->kind() == detail::CellKind::actor;
    out.put(static_cast<std::uint8_t>(actor ? 1 : 0));
    if (entry.owned) {
      grant(entry, to);
    } else if (to != entry.id.owner && context_.alive(to) && to != context_.self && context_.alive(entry.id.owner)) {
      // A loan: our own reference stays until the owner has registered `to`. To the owner itself FIFO is enough, and a
      // dead one registers nobody.
      add_to(entry.loans, to, 1);
      handle(entry).detach();
    }
  }
}

CellRef Refs::lost(bool actor, std::string why) {
  auto cell = actor ? CellRef::adopt(make_actor_cell({})) : detail::make_plain_cell();
  cell->complete_error(runtime_error(context_, Errc::object_lost, std::move(why)));
  return cell;
}

std::vector<CellRef> Refs::read(Reader& in, Rank from, std::size_t arguments) {
  const auto count = in.count(3);
  std::vector<CellRef> refs;
  refs.reserve(count);
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
    const auto id = in.id();
    if (!id && i < arguments && in.ok()) {
      Value value;
      const auto bytes = in.blob();
      value.bytes.assign(bytes.begin(), bytes.end());
      value.refs = read(in, from);
      if (!in.ok()) break;
      refs.push_back(detail::make_plain_cell());
      refs.back()->complete(std::move(value));
      continue;
    }
    const auto kind = in.get<std::uint8_t>();
    if (!in.ok() || !id || id.owner >= context_.size || kind > 1) {
      in.fail();
      break;
    }
    auto* entry = find(id);
    bool known = entry != nullptr;
    if (id.owner == context_.self && from != context_.self) {
      const auto has = right(from, id, kind == 1);
      if (has == Right::none) {
        in.fail();
        break;
      }
      known = has == Right::use;
    }
    const bool other_kind = known && is_actor(*entry) != (kind == 1);
    if (!known) {
      if (id.owner == context_.self) {
        // A loan that was void: freed, after the death of whoever held it for the sender, or made up.
        refs.push_back(lost(kind == 1, fmt::format("object {}.{} was freed by its owner before this reference to it "
                                                   "arrived: the rank that passed it on has died",
                                                   id.owner, id.index)));
        continue;
      }
      Cell* cell = kind == 1 ? make_actor_cell(id) : detail::make_plain_cell().detach();
      entry = &make_entry(id, cell, false);
      refs.push_back(CellRef::adopt(cell));
      if (!context_.alive(id.owner)) {
        refs.back()->complete_error(
            runtime_error(context_, Errc::owner_died,
                          fmt::format("rank {}, the owner of object {}.{}, is dead", id.owner, id.owner, id.index)));
      }
    } else if (other_kind) {
      // Of the two who named it, one lied. What is counted is counted all the same.
      refs.push_back(
          lost(kind == 1, fmt::format("two ranks disagree on whether {}.{} is an actor", id.owner, id.index)));
    } else {
      refs.push_back(handle(*entry));
    }
    if (entry->owned || from == context_.self) continue;
    if (from == id.owner) {
      ++entry->received;
    } else if (context_.alive(id.owner)) {
      ++entry->received;
      auto out = context_.begin(MessageType::borrow);
      out.id(id);
      out.varint(from);
      out.put(kind);
      context_.send(id.owner);
    }
  }
  return refs;
}

void Refs::on_borrow(Rank from, Reader& in) {
  const auto id = in.id();
  const auto lender = static_cast<Rank>(in.varint());
  const bool actor = in.get<std::uint8_t>() != 0;
  if (!in.done() || lender >= context_.size || id.owner != context_.self || lender == context_.self || lender == from)
    return in.fail();
  if (auto* entry = find(id); entry != nullptr && entry->given && is_actor(*entry) == actor)
    grant(*entry, from);
  else
    add_to(void_loans_[id], from, 1);
  if (!context_.alive(lender)) return;
  auto out = context_.begin(MessageType::loan_done);
  out.id(id);
  out.varint(from);
  context_.send(lender);
}

void Refs::on_loan_done(Rank from, Reader& in) {
  const auto id = in.id();
  const auto borrower = static_cast<Rank>(in.varint());
  if (!in.done() || id.owner != from) return in.fail();
  auto* entry = find(id);
  if (entry == nullptr) return;
  for (auto& [rank, count] : entry->loans) {
    if (rank == borrower && count > 0) {
      take_from(entry->loans, borrower, 1);
      entry->cell->release();
      return;
    }
  }
}

void Refs::on_release(Rank from, Reader& in) {
  const auto id = in.id();
  const auto count = in.varint();
  if (!in.done() || id.owner != context_.self || count == 0 || count > UINT32_MAX) return in.fail();
  // What it gives back, it has said to be lent: void loans are all among it, grants may be on their way.
  const auto granted = static_cast<std::uint32_t>(count) - end_void_loans(id, from, static_cast<std::uint32_t>(count));
  if (granted == 0) return;
  auto* entry = find(id);
  if (entry == nullptr || take_from(entry->grants, from, granted) != granted) return in.fail();
  maybe_free(*entry);
}

void Refs::on_free_result(Rank from, Reader& in) {
  const auto key = in.id();
  if (!in.done() || key.owner != from) return in.fail();
  held_.erase(key);
}

void Refs::on_released(Entry& entry) {
  // acquire: pairs with the last releasers' fetch_add in Cell::unreferenced().
  entry.lives -= entry.drops.exchange(0, std::memory_order_acq_rel);
  if (entry.lives != 0) return;
  entry.local = false;
  maybe_free(entry);
}

void Refs::maybe_free(Entry& entry) {
  if (entry.local || !entry.grants.empty()) return;
  entries_.erase(entry.id);
  if (!entry.owned) {
    if (entry.received > 0 && context_.alive(entry.id.owner)) {
      auto out = context_.begin(MessageType::release);
      out.id(entry.id);
      out.varint(entry.received);
      context_.send(entry.id.owner);
    }
    if (context_.store != nullptr) context_.store->drop(entry.id);
  } else {
    if (entry.cell->kind() == detail::CellKind::actor && on_actor_unreferenced) on_actor_unreferenced(entry);
    if (entry.location) {
      if (context_.store != nullptr) context_.store->drop(entry.id);
      if (entry.location->rank == context_.self) {
        held_.erase(entry.hold_key);
      } else if (context_.alive(entry.location->rank)) {
        auto out = context_.begin(MessageType::free_result);
        out.id(entry.hold_key);
        context_.send(entry.location->rank);
      }
    }
  }
  Cell* cell = entry.cell;
  std::unique_ptr<Entry> own(&entry);
  cell->destroy();
}

/// Handles of all, in order: they keep every entry in place while the list is worked through.
std::vector<CellRef> Refs::handles() {
  std::vector<CellRef> all;
  all.reserve(entries_.size());
  for (auto& [id, entry] : entries_) all.push_back(handle(*entry));
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->entry()->id < b->entry()->id; });
  return all;
}

void Refs::end() {
  for (const auto& cell : handles()) {
    Entry& entry = *cell->entry();
    entry.grants.clear();
    entry.subscribers.clear();
    for (const auto& [rank, count] : std::exchange(entry.loans, {}))
      for (auto n = count; n > 0; --n) cell->release();
  }
  held_.clear();
  void_loans_.clear();
}

void Refs::on_rank_dead(Rank dead) {
  for (const auto& cell : handles()) {
    Entry* const entry = cell->entry();
    take_from(entry->grants, dead, UINT32_MAX);
    std::erase(entry->subscribers, dead);
    for (auto& [rank, count] : entry->loans) {
      // The borrower, or the owner who was to register it.
      if (rank != dead && (entry->owned || entry->id.owner != dead)) continue;
      for (auto n = count; n > 0; --n) entry->cell->release();
      count = 0;
    }
    std::erase_if(entry->loans, [](const auto& loan) { return loan.second == 0; });
    if (entry->cell->ready()) continue;
    if (!entry->owned && entry->id.owner == dead) {
      entry->cell->complete_error(
          runtime_error(context_, Errc::owner_died,
                        fmt::format("rank {}, the owner of object {}.{}, died", dead, dead, entry->id.index)));
      resolved(*entry);
    } else if (entry->location && entry->location->rank == dead) {
      entry->cell->complete_error(
          runtime_error(context_, Errc::object_lost,
                        fmt::format("the only copy of object {}.{} ({} bytes) was on rank {}, which died",
                                    entry->id.owner, entry->id.index, entry->location->size, dead)));
      resolved(*entry);
    }
  }
  std::erase_if(held_, [&](const auto& item) { return item.first.owner == dead; });
  for (auto& [id, borrowers] : void_loans_) take_from(borrowers, dead, UINT32_MAX);
  std::erase_if(void_loans_, [](const auto& item) { return item.second.empty(); });
}

std::string Refs::dump() const {
  std::string text;
  for (const auto& [id, entry] : entries_) {
    text += fmt::format("{} {}.{} local {} lives {} received {} loans {} uses {} ready {};",
                        entry->owned ? "owned" : "borrowed", id.owner, id.index, entry->local, entry->lives,
                        entry->received, entry->loans.size(), entry->cell->use_count(), entry->cell->ready());
    for (const auto& [rank, count] : entry->grants) text += fmt::format(" grant {}x{}", rank, count);
    text += '\n';
  }
  for (const auto& [id, buffer] : held_) text += fmt::format("held {}.{} {} bytes\n", id.owner, id.index, buffer.size);
  return text;
}

}  // namespace trireme::core
