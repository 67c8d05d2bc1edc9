#include "core/names.hpp"

#include <fmt/format.h>

namespace trireme::core {

void Names::resolve(std::uint64_t token, CellRef actor, const detail::ErrorInfo* error) {
  auto node = waiting_.extract(token);
  if (!node.empty()) node.mapped().done(std::move(actor), error);
}

void Names::reply(Rank to, std::uint64_t token, Cell* actor, const detail::ErrorInfo* error) {
  if (to == context_.self) return resolve(token, CellRef::share(actor), error);
  auto out = context_.begin(MessageType::name_reply);
  out.varint(token);
  out.put(static_cast<std::uint8_t>(error != nullptr));
  if (error != nullptr) {
    encode_error(out, *error);
  } else {
    CellRef ref = CellRef::share(actor);
    refs_.write(out, {&ref, ref ? 1U : 0U}, to);
  }
  context_.send(to);
}

void Names::on_reply(Rank from, Reader& in) {
  const auto token = in.varint();
  if (in.get<std::uint8_t>() != 0) {
    const auto error = decode_error(in);
    const auto at = waiting_.find(token);
    if (!in.done() || (from != 0 && at != waiting_.end() && at->second.name.empty())) return in.fail();
    return resolve(token, {}, &error);
  }
  auto refs = refs_.read(in, from);
  if (!in.done() || refs.size() > 1) return in.fail();
  // A look-up is answered with an actor, by its owner or rank 0; the rest without one, by rank 0.
  if (const auto at = waiting_.find(token); at != waiting_.end()) {
    const bool looked_up = !at->second.name.empty();
    if (looked_up ? refs.empty() || refs[0]->kind() != detail::CellKind::actor : !refs.empty() || from != 0)
      return in.fail();
  }
  resolve(token, refs.empty() ? CellRef{} : std::move(refs[0]), nullptr);
}

void Names::set(const std::string& name, const std::string& type, Cell* actor, Done done) {
  const auto id = refs_.export_cell(actor).id;
  const auto token = expect({std::move(done), {}, {}});
  if (context_.self == 0) return handle_set(0, token, name, {id, type});
  auto out = context_.begin(MessageType::name_set);
  out.varint(token);
  out.text(name);
  out.text(type);
  out.id(id);
  context_.send(0);
}

void Names::on_set(Rank from, Reader& in) {
  const auto token = in.varint();
  std::string name(in.text());
  std::string type(in.text());
  const auto id = in.id();
  if (!in.done() || context_.self != 0 || id.owner != from) return in.fail();
  handle_set(from, token, std::move(name), {id, std::move(type)});
}

void Names::handle_set(Rank from, std::uint64_t token, std::string name, Named named) {
  const auto [at, fresh] = names_.emplace(std::move(name), std::move(named));
  if (fresh) return reply(from, token, nullptr, nullptr);
  const auto error =
      runtime_error(context_, Errc::already_exists,
                    fmt::format("the name '{}' belongs to an actor spawned by rank {}: choose another or kill that "
                                "actor first",
                                at->first, at->second.id.owner));
  reply(from, token, nullptr, &error);
}

void Names::get(const std::string& name, const std::string& type, Done done) {
  ask(expect({std::move(done), name, type}), name, type);
}

void Names::ask(std::uint64_t token, const std::string& name, const std::string& type) {
  if (context_.self == 0) return handle_get(0, token, name, type);
  auto out = context_.begin(MessageType::name_get);
  out.varint(token);
  out.text(name);
  out.text(type);
  context_.send(0);
}

void Names::on_get(Rank from, Reader& in) {
  const auto token = in.varint();
  const std::string name(in.text());
  const std::string type(in.text());
  if (!in.done() || context_.self != 0) return in.fail();
  handle_get(from, token, name, type);
}

void Names::handle_get(Rank from, std::uint64_t token, const std::string& name, const std::string& type) {
  const auto at = names_.find(name);
  if (at == names_.end()) {
    std::string known;
    std::size_t shown = 0;
    for (const auto& [other, named] : names_) {
      if (++shown > 10) {
        known += fmt::format(", ... ({} in all)", names_.size());
        break;
      }
      known += (known.empty() ? "" : ", ") + other;
    }
    const auto error = runtime_error(
        context_, Errc::not_found,
        fmt::format("no actor is named '{}'; there {}", name, known.empty() ? "are no named actors" : "are: " + known));
    return reply(from, token, nullptr, &error);
  }
  if (at->second.type != type) {
    const auto error = runtime_error(
        context_, Errc::type_mismatch,
        fmt::format("the actor named '{}' is of another class (asked {}, is {})", name, type, at->second.type));
    return reply(from, token, nullptr, &error);
  }
  // The owner grants the handle, or says that the actor has just ended.
  if (at->second.id.owner == context_.self) return handle_forward(from, token, at->second.id);
  auto out = context_.begin(MessageType::name_forward);
  out.varint(token);
  out.varint(from);
  out.id(at->second.id);
  context_.send(at->second.id.owner);
}

void Names::on_forward(Rank from, Reader& in) {
  const auto token = in.varint();
  const auto requester = static_cast<Rank>(in.varint());
  const auto id = in.id();
  if (!in.done() || from != 0 || requester >= context_.size) return in.fail();
  handle_forward(requester, token, id);
}

void Names::handle_forward(Rank requester, std::uint64_t token, ObjectId id) {
  auto* entry = refs_.find(id);
  if (entry == nullptr) {
    const auto error = runtime_error(context_, Errc::not_found, "the actor of that name has just ended");
    return reply(requester, token, nullptr, &error);
  }
  const auto ref = refs_.handle(*entry);
  reply(requester, token, ref.get(), nullptr);
}

void Names::remove(const std::string& name) {
  if (context_.self == 0) {
    names_.erase(name);
    return;
  }
  auto out = context_.begin(MessageType::name_del);
  out.text(name);
  context_.send(0);
}

void Names::on_del(Rank from, Reader& in) {
  const std::string name(in.text());
  if (!in.done() || context_.self != 0) return in.fail();
  const auto at = names_.find(name);
  if (at != names_.end() && at->second.id.owner == from) names_.erase(at);
}

void Names::on_rank_dead(Rank dead) {
  std::erase_if(names_, [&](const auto& item) { return item.second.id.owner == dead; });
  // Rank 0 may have passed a question on to the dead one. Of two answers the first counts.
  std::vector<std::uint64_t> asked;
  for (const auto& [token, waiting] : waiting_)
    if (!waiting.name.empty()) asked.push_back(token);
  for (const auto token : asked) {
    const auto at = waiting_.find(token);
    if (at == waiting_.end()) continue;
    const auto [name, type] = std::pair(at->second.name, at->second.type);
    ask(token, name, type);
  }
}

}  // namespace trireme::core
