#include "python/native/control.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/actors.hpp"
#include "core/rank_core.hpp"
#include "python/native/pool.hpp"
#include "python/native/stream.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using core::Control;
using detail::CellRef;

namespace {

/// Of an export; so that a large one does not keep the messages behind it waiting.
constexpr std::size_t kPieceBytes = 1U << 20U;

std::uint8_t number(Topic topic) { return static_cast<std::uint8_t>(topic); }

/// A handle on what the table names, of this rank; under the token.
CellRef handle_here(core::RankCore& core, ObjectId id) {
  auto* entry = id ? core.refs().find(id) : nullptr;
  return entry == nullptr ? CellRef{} : core.refs().handle(*entry);
}

bool on_exported(core::RankCore& core, const Control::Question& question, const Control::Reply& reply) {
  Reader in(question.bytes);
  const auto key = std::string(in.text());
  const auto offset = in.varint();
  if (!in.done() || !question.refs.empty()) return false;
  Control::Answer answer;
  const auto blob = ExportTable::instance().find(key);
  if (blob == nullptr) {
    answer.error = std::make_unique<detail::ErrorInfo>(
        core::runtime_error(core.context(), Errc::not_found, "no function was exported under that key"));
  } else {
    if (offset > blob->size()) return false;
    Writer out(answer.bytes);
    out.varint(blob->size());
    out.blob(BytesView(*blob).subspan(offset, std::min(kPieceBytes, blob->size() - offset)));
  }
  reply(std::move(answer));
  return true;
}

bool on_restart(Pool& pool, const Control::Question& question, const Control::Reply& reply) {
  if (!question.bytes.empty() || question.refs.size() != 1) return false;
  const auto& actor = question.refs.front();
  if (actor->kind() != detail::CellKind::actor) return false;
  if (auto* local = static_cast<detail::ActorCell*>(actor.get())->local.load(std::memory_order_acquire))
    pool.restart_actor(local);
  reply({});
  return true;
}

bool on_actor(core::RankCore& core, const Control::Question& question, const Control::Reply& reply) {
  Reader in(question.bytes);
  const auto key = in.varint();
  if (!in.done() || !question.refs.empty()) return false;
  Control::Answer answer;
  if (auto actor = handle_here(core, ActorTable::instance().find(key))) answer.refs.push_back(std::move(actor));
  reply(std::move(answer));
  return true;
}

bool on_stream_item(const Control::Question& question, const Control::Reply& reply) {
  Reader in(question.bytes);
  const auto stream = in.varint();
  const auto index = in.varint();
  if (!in.done() || question.refs.size() != 1) return false;
  const auto wanted = [reply](bool more) {
    Control::Answer answer;
    answer.bytes.push_back(static_cast<std::byte>(more));
    reply(std::move(answer));
  };
  const auto found = StreamTable::instance().find(stream);
  if (found == nullptr)
    wanted(false);
  else
    found->push(index, question.refs.front(), wanted);
  return true;
}

/// An export on its way here, piece by piece.
struct Fetch : std::enable_shared_from_this<Fetch> {
  Fetch(core::RankCore& c, Rank rank, std::string k,
        std::function<void(ExportTable::Blob, const detail::ErrorInfo*)> done)
      : core(c), from(rank), key(std::move(k)), then(std::move(done)) {}
  core::RankCore& core;
  Rank from;
  std::string key;
  std::function<void(ExportTable::Blob, const detail::ErrorInfo*)> then;
  Bytes got;

  void ask() {
    Bytes question;
    Writer out(question);
    out.text(key);
    out.varint(got.size());
    core.control().ask(from, number(Topic::exported), std::move(question), {},
                       [self = shared_from_this()](const Control::Answer& answer) { self->take(answer); });
  }
  void take(const Control::Answer& answer) {
    if (answer.error != nullptr) return then(nullptr, answer.error.get());
    Reader in(answer.bytes);
    const auto total = in.varint();
    const auto piece = in.blob();
    const auto left = total - got.size();
    if (!in.done() || total < got.size() || piece.size() > left || (piece.empty() && left != 0)) {
      const auto error = core::runtime_error(core.context(), Errc::malformed,
                                             "a piece of an exported function does not fit what came before it");
      return then(nullptr, &error);
    }
    got.insert(got.end(), piece.begin(), piece.end());
    if (got.size() < total) return ask();
    ExportTable::instance().set(key, std::move(got));
    then(ExportTable::instance().find(key), nullptr);
  }
};

}  // namespace

ExportTable& ExportTable::instance() {
  static ExportTable table;
  return table;
}
void ExportTable::set(std::string key, Bytes blob) {
  auto kept = std::make_shared<const Bytes>(std::move(blob));
  const std::lock_guard lock(mutex_);
  blobs_.try_emplace(std::move(key), std::move(kept));
}
ExportTable::Blob ExportTable::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto at = blobs_.find(key);
  return at == blobs_.end() ? nullptr : at->second;
}
void ExportTable::clear() {
  const std::lock_guard lock(mutex_);
  blobs_.clear();
}

ActorTable& ActorTable::instance() {
  static ActorTable table;
  return table;
}
void ActorTable::add(std::uint64_t key, ObjectId id) {
  const std::lock_guard lock(mutex_);
  ids_[key] = id;
}
ObjectId ActorTable::find(std::uint64_t key) {
  const std::lock_guard lock(mutex_);
  const auto at = ids_.find(key);
  return at == ids_.end() ? ObjectId{} : at->second;
}

void serve_control(core::RankCore& core, Pool& pool) {
  auto& control = core.control();
  control.serve(number(Topic::exported), [&core](const Control::Question& question, const Control::Reply& reply) {
    return on_exported(core, question, reply);
  });
  control.serve(number(Topic::restart), [&pool](const Control::Question& question, const Control::Reply& reply) {
    return on_restart(pool, question, reply);
  });
  control.serve(number(Topic::actor), [&core](const Control::Question& question, const Control::Reply& reply) {
    return on_actor(core, question, reply);
  });
  control.serve(number(Topic::stream_item), on_stream_item);
}

void fetch_export(core::RankCore& core, Rank rank, const std::string& key,
                  std::function<void(ExportTable::Blob, const detail::ErrorInfo*)> then) {
  std::make_shared<Fetch>(core, rank, key, std::move(then))->ask();
}

void restart_everywhere(core::RankCore& core, Pool& pool, const CellRef& actor) {
  when_ready(actor, [&core, &pool, actor] {
    if (actor->form() == detail::CellForm::error) return;
    auto* cell = static_cast<detail::ActorCell*>(actor.get());
    if (auto* local = cell->local.load(std::memory_order_acquire)) {
      pool.restart_actor(local);
      return;
    }
    core.control().ask(cell->host(), number(Topic::restart), {}, {actor}, {});
  });
}

void actor_of_key(core::RankCore& core, Rank creator, std::uint64_t key, std::function<void(CellRef)> then) {
  if (creator == core.context().self) return then(handle_here(core, ActorTable::instance().find(key)));
  Bytes question;
  Writer(question).varint(key);
  core.control().ask(creator, number(Topic::actor), std::move(question), {},
                     [then = std::move(then)](const Control::Answer& answer) {
                       // With an error its creator's rank is gone, and the actor with it.
                       const bool known = answer.error == nullptr && answer.refs.size() == 1 &&
                                          answer.refs.front()->kind() == detail::CellKind::actor;
                       then(known ? answer.refs.front() : CellRef{});
                     });
}

void push_elsewhere(core::RankCore& core, ObjectId stream, std::uint64_t index, CellRef item,
                    std::function<void(bool)> done) {
  Bytes question;
  Writer out(question);
  out.varint(stream.index);
  out.varint(index);
  core.control().ask(stream.owner, number(Topic::stream_item), std::move(question), {std::move(item)},
                     [done = std::move(done)](const Control::Answer& answer) {
                       // With an error the consumer's rank is gone, and with it who wanted the values.
                       done(answer.error == nullptr && answer.bytes == Bytes{std::byte{1}});
                     });
}

}  // namespace trireme::python
