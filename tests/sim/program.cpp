#include "tests/sim/program.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/runtime.hpp"

namespace trireme::sim {

Ledger* ledger = nullptr;

Blob make_blob(std::uint64_t value) {
  Rng rng(value);
  // One in six is an object of its own, up to 64 KiB.
  auto words = rng.below(6) == 0 ? 1100 + rng.below(7000) : 1 + rng.below(20);
  // Some are small enough for a message, yet too large to stand in for a reference.
  if (words <= 20 && rng.below(6) == 0) words *= 20;
  Blob blob(words);
  for (std::size_t i = 0; i < words; ++i) blob[i] = value + i * 0x9E3779B97F4A7C15ULL;
  return blob;
}

std::uint64_t check_blob(const Blob& blob) {
  if (blob.empty() || blob != make_blob(blob[0])) {
    ledger->fail(fmt::format("a value of {} words on rank {} has the wrong content", blob.size(), this_rank()));
    return 0;
  }
  return blob[0];
}

std::uint64_t Ledger::ticket(std::uint32_t retries) {
  tickets_.push_back({retries, 0, false});
  return tickets_.size();
}

void Ledger::ran(std::uint64_t number) {
  ++runs;
  auto& ticket = tickets_.at(number - 1);
  const auto most = 1 + (world.deaths == 0 ? 0 : ticket.retries);
  if (++ticket.runs > most)
    fail(fmt::format("submission {} runs for the {}. time, max_retries is {}, {} ranks died", number, ticket.runs,
                     ticket.retries, world.deaths));
  if (ticket.never_began)
    fail(fmt::format("submission {} begins after it was reported as cancelled before it began", number));
}

void Ledger::never_began(std::uint64_t number) {
  auto& ticket = tickets_.at(number - 1);
  ticket.never_began = true;
  // A rank that died may have begun it.
  if (ticket.runs != 0 && world.deaths == 0)
    fail(fmt::format("submission {} is reported as cancelled before it began, and ran", number));
}

void Ledger::called(const CallOrder& order, std::uint64_t instance) {
  ++calls;
  ran(order.ticket);
  auto& last = last_call_[mix(instance, order.caller)];
  if (order.number <= last)
    fail(fmt::format("actor {}: call {} of caller {} runs after call {}", order.actor, order.number, order.caller,
                     last));
  last = order.number;
}

void Ledger::opens(std::uint64_t key) { ++opened_[key]; }

void Ledger::built(std::uint64_t key) {
  if (++built_[key] > std::max(1U, opened_[key])) fail(fmt::format("actor {} is constructed twice", key));
}

void Ledger::fail(std::string text) { world.failures.push_back(std::move(text)); }

Order new_order(std::uint64_t value, std::uint32_t depth, std::uint32_t retries) {
  return {value, ledger->ticket(retries), depth};
}

void compute(Rng& rng) {
  if (!rng.chance(0.3)) return;
  ledger->world.at(this_rank()).host->compute(static_cast<Nanos>(rng.below(50'000)));
}

Outcome outcome_of(const Exception& error) {
  if (error.code() != Errc::task_failed) throw error;
  return {true, std::stoull(error.message())};
}

namespace {

std::uint64_t fold(std::uint64_t sum, Outcome outcome) { return mix(sum, mix(outcome.failed ? 1 : 2, outcome.value)); }
bool refuses(std::uint64_t value) { return value % 16 == 3; }

/// Where two arguments fail, either error may be the result: one of them never does.
std::uint64_t calm(std::uint64_t value) { return refuses(value) ? value + 1 : value; }

Outcome result(std::uint64_t value) { return {refuses(value), value}; }
Blob give(std::uint64_t value) {
  if (refuses(value)) throw Refusal(value);
  return make_blob(value);
}

Outcome get_outcome(const Ref<Blob>& ref) {
  try {
    return {false, check_blob(get(ref))};
  } catch (const Exception& error) {
    return outcome_of(error);
  }
}
Async<Outcome> await_outcome(Ref<Blob> ref) {
  try {
    const auto blob = co_await ref;
    co_return Outcome{false, check_blob(blob)};
  } catch (const Exception& error) {
    co_return outcome_of(error);
  }
}

/// Exceptions of the runtime under which a value inside another, or the whole, is not to be had.
template <class T>
T get_value(const Ref<T>& ref) {
  return get(ref);
}

enum class Kind : std::uint8_t {
  leaf,
  tree,
  tree_later,
  branch,
  fan,
  halves,
  combine,
  put,
  placed,
  account,
  relay,
  sum,
  sum_later,
  count
};

struct Part {
  Kind kind;
  std::uint64_t value;
  std::uint64_t where;
};

std::vector<Part> plan(std::uint64_t value, std::uint32_t depth) {
  Rng rng(value ^ 0x706c616eULL);
  std::vector<Part> parts;
  if (depth == 0) return parts;
  const auto count = rng.below(5);
  for (std::uint64_t i = 0; i < count; ++i)
    parts.push_back({static_cast<Kind>(rng.below(static_cast<std::uint64_t>(Kind::count))), rng.next(), rng.next()});
  return parts;
}

/// References in flight of one part.
struct Launched {
  std::vector<Ref<Blob>> refs;
  std::vector<Ref<Ref<Blob>>> nested;
  std::vector<Ref<std::vector<Ref<Blob>>>> many;
};

void launch(const Part& part, std::uint32_t depth, Launched& out) {
  const auto v = part.value;
  switch (part.kind) {
    case Kind::leaf:
      out.refs.push_back(submit<&leaf>(new_order(v)));
      break;
    case Kind::tree:
      out.refs.push_back(submit<&tree>(new_order(v, depth - 1)));
      break;
    case Kind::tree_later:
      out.refs.push_back(submit<&tree_later>(new_order(v, depth - 1)));
      break;
    case Kind::branch:
      out.nested.push_back(submit<&branch>(new_order(v, depth - 1)));
      break;
    case Kind::fan:
      out.many.push_back(submit<&fan>(new_order(v)));
      break;
    case Kind::halves: {
      auto [a, b] = submit_split<&halves>(new_order(v));
      out.refs.push_back(a);
      out.refs.push_back(b);
      break;
    }
    case Kind::combine:
      out.refs.push_back(submit<&combine>(new_order(v), submit<&leaf>(new_order(calm(mix(v, 1)))),
                                          submit<&tree>(new_order(mix(v, 2), depth - 1))));
      break;
    case Kind::put:
      out.refs.push_back(submit<&combine>(new_order(v), put(make_blob(mix(v, 1))), make_blob(mix(v, 2))));
      break;
    case Kind::placed: {
      TaskOptions options;
      options.max_retries = static_cast<int>(part.where % 4);
      if (part.where % 3 == 0)
        options.placement = Placement::spread();
      else if (part.where % 3 == 1)
        options.placement = Placement::on(static_cast<Rank>(part.where / 3 % rank_count()), true);
      else
        options.resources.custom["slot"] = 1;
      out.refs.push_back(submit_with<&leaf>(options, new_order(v, 0, static_cast<std::uint32_t>(options.max_retries))));
      break;
    }
    case Kind::account: {
      Caller caller;
      const auto key = ledger->actor_key();
      ActorOptions options;
      if (part.where % 4 == 1) options.placement = Placement::spread();
      if (part.where % 4 == 2)
        options.placement = Placement::on(static_cast<Rank>(part.where / 4 % rank_count()), true);
      auto account = spawn_with<Account>(options, v, key, 1U);
      out.refs.push_back(account.call<&Account::add>(caller.order(key, mix(v, 1))));
      out.refs.push_back(
          account.call<&Account::add_to>(caller.order(key, mix(v, 2)), submit<&leaf>(new_order(mix(v, 3)))));
      out.refs.push_back(submit<&use_account>(new_order(mix(v, 4)), account, key));
      out.nested.push_back(account.call<&Account::delegate>(caller.order(key, mix(v, 5))));
      out.refs.push_back(
          account.call<&Account::add_later>(caller.order(key, mix(v, 6)), submit<&leaf>(new_order(mix(v, 7)))));
      break;
    }
    case Kind::relay: {
      auto what = submit<&tree_later>(new_order(v, depth - 1));
      TaskOptions options;
      options.placement = Placement::on(static_cast<Rank>(part.where % rank_count()), true);
      out.nested.push_back(submit_with<&hand_on>(options, new_order(mix(v, 1)), what));
      break;
    }
    case Kind::sum:
    case Kind::sum_later: {
      std::vector<Ref<Blob>> parts;
      for (std::uint64_t i = 0; i < 1 + part.where % 4; ++i) parts.push_back(submit<&leaf>(new_order(mix(v, i + 1))));
      if (part.kind == Kind::sum)
        out.refs.push_back(submit<&sum>(new_order(v), std::move(parts)));
      else
        out.refs.push_back(submit<&sum_later>(new_order(v), std::move(parts)));
      break;
    }
    case Kind::count:
      break;
  }
}

void eval(const Part& part, std::uint32_t depth, std::vector<Outcome>& refs, std::vector<Outcome>& nested,
          std::vector<Outcome>& many) {
  const auto v = part.value;
  switch (part.kind) {
    case Kind::leaf:
    case Kind::placed:
      refs.push_back(eval_leaf(v));
      break;
    case Kind::tree:
    case Kind::tree_later:
      refs.push_back(eval_tree(v, depth - 1));
      break;
    case Kind::branch:
      nested.push_back(eval_tree(v, depth - 1));
      break;
    case Kind::fan:
      for (const auto& each : eval_fan(v)) many.push_back(each);
      break;
    case Kind::halves: {
      auto [a, b] = eval_halves(v);
      refs.push_back(a);
      refs.push_back(b);
      break;
    }
    case Kind::combine:
      refs.push_back(eval_combine(v, eval_leaf(calm(mix(v, 1))), eval_tree(mix(v, 2), depth - 1)));
      break;
    case Kind::put:
      refs.push_back(eval_combine(v, {false, mix(v, 1)}, {false, mix(v, 2)}));
      break;
    case Kind::account:
      refs.push_back(eval_add(mix(v, 1)));
      refs.push_back(eval_add_to(mix(v, 2), eval_leaf(mix(v, 3))));
      refs.push_back(eval_use(mix(v, 4)));
      nested.push_back(eval_leaf(mix(v, 5)));
      refs.push_back(eval_add_to(mix(v, 6), eval_leaf(mix(v, 7))));
      break;
    case Kind::relay:
      nested.push_back(eval_tree(v, depth - 1));
      break;
    case Kind::sum:
    case Kind::sum_later: {
      std::vector<Outcome> parts;
      for (std::uint64_t i = 0; i < 1 + part.where % 4; ++i) parts.push_back(eval_leaf(mix(v, i + 1)));
      refs.push_back(eval_sum(v, parts));
      break;
    }
    case Kind::count:
      break;
  }
}

}  // namespace

Outcome eval_leaf(std::uint64_t value) { return result(value); }
Outcome eval_combine(std::uint64_t value, Outcome a, Outcome b) {
  if (a.failed) return a;
  if (b.failed) return b;
  return result(mix(value, mix(a.value, b.value)));
}
Outcome eval_sum(std::uint64_t value, const std::vector<Outcome>& parts) {
  for (const auto& part : parts) value = fold(value, part);
  return result(value);
}
std::pair<Outcome, Outcome> eval_halves(std::uint64_t value) {
  if (refuses(value)) return {{true, value}, {true, value}};
  return {{false, mix(value, 1)}, {false, mix(value, 2)}};
}
std::vector<Outcome> eval_fan(std::uint64_t value) {
  std::vector<Outcome> parts;
  for (std::uint64_t i = 0; i < value % 5; ++i) parts.push_back(eval_leaf(mix(value, i)));
  return parts;
}
Outcome eval_tree(std::uint64_t value, std::uint32_t depth) {
  std::vector<Outcome> refs, nested, many;
  for (const auto& part : plan(value, depth)) eval(part, depth, refs, nested, many);
  for (const auto& each : refs) value = fold(value, each);
  for (const auto& each : nested) value = fold(value, each);
  for (const auto& each : many) value = fold(value, each);
  return result(value);
}
Outcome eval_add(std::uint64_t value) { return {false, mix(value, 77)}; }
Outcome eval_add_to(std::uint64_t value, Outcome to) { return to.failed ? to : Outcome{false, mix(value, to.value)}; }
Outcome eval_add_both(std::uint64_t value, Outcome a, Outcome b) {
  if (a.failed) return a;
  if (b.failed) return b;
  return {false, mix(value, mix(a.value, b.value))};
}
Outcome eval_use(std::uint64_t value) {
  auto sum = value;
  for (std::uint64_t i = 0; i < 1 + value % 4; ++i) sum = fold(sum, eval_add(mix(value, i)));
  return result(sum);
}

Blob leaf(Order order) {
  ledger->ran(order.ticket);
  Rng rng(order.value);
  compute(rng);
  return give(order.value);
}

Blob combine(Order order, const Blob& a, Blob b) {
  ledger->ran(order.ticket);
  const auto first = check_blob(a);
  return give(mix(order.value, mix(first, check_blob(b))));
}

Blob sum(Order order, const std::vector<Ref<Blob>>& parts) {
  ledger->ran(order.ticket);
  auto value = order.value;
  for (const auto& part : parts) value = fold(value, get_outcome(part));
  return give(value);
}

Async<Blob> sum_later(Order order, std::vector<Ref<Blob>> parts) {
  ledger->ran(order.ticket);
  auto value = order.value;
  for (const auto& part : parts) value = fold(value, co_await await_outcome(part));
  co_return give(value);
}

std::tuple<Blob, Blob> halves(Order order) {
  ledger->ran(order.ticket);
  if (refuses(order.value)) throw Refusal(order.value);
  return {make_blob(mix(order.value, 1)), make_blob(mix(order.value, 2))};
}

std::vector<Ref<Blob>> fan(Order order) {
  ledger->ran(order.ticket);
  std::vector<Ref<Blob>> refs;
  for (std::uint64_t i = 0; i < order.value % 5; ++i) refs.push_back(submit<&leaf>(new_order(mix(order.value, i))));
  return refs;
}

Ref<Blob> hand_on(Order order, Ref<Blob> what) {
  ledger->ran(order.ticket);
  return what;
}

Blob tree(Order order) {
  ledger->ran(order.ticket);
  Rng rng(order.value);
  Launched launched;
  for (const auto& part : plan(order.value, order.depth)) {
    launch(part, order.depth, launched);
    compute(rng);
  }
  auto value = order.value;
  for (const auto& ref : launched.refs) value = fold(value, get_outcome(ref));
  for (const auto& ref : launched.nested) value = fold(value, get_outcome(get(ref)));
  for (const auto& ref : launched.many)
    for (const auto& each : get(ref)) value = fold(value, get_outcome(each));
  return give(value);
}

Async<Blob> tree_later(Order order) {
  ledger->ran(order.ticket);
  Launched launched;
  for (const auto& part : plan(order.value, order.depth)) launch(part, order.depth, launched);
  auto value = order.value;
  for (const auto& ref : launched.refs) value = fold(value, co_await await_outcome(ref));
  for (const auto& ref : launched.nested) {
    auto inner = co_await ref;
    value = fold(value, co_await await_outcome(inner));
  }
  for (const auto& ref : launched.many) {
    auto all = co_await ref;
    for (const auto& each : all) value = fold(value, co_await await_outcome(each));
  }
  co_return give(value);
}

Ref<Blob> branch(Order order) {
  ledger->ran(order.ticket);
  return submit<&tree_later>(new_order(order.value, order.depth));
}

Blob use_account(Order order, Actor<Account> account, std::uint64_t key) {
  ledger->ran(order.ticket);
  Caller caller;
  std::vector<Ref<Blob>> refs;
  for (std::uint64_t i = 0; i < 1 + order.value % 4; ++i)
    refs.push_back(account.call<&Account::add>(caller.order(key, mix(order.value, i))));
  account = {};
  auto value = order.value;
  for (const auto& ref : refs) value = fold(value, get_outcome(ref));
  return give(value);
}

Async<Blob> use_account_later(Order order, Actor<Account> account, std::uint64_t key) {
  ledger->ran(order.ticket);
  Caller caller;
  std::vector<Ref<Blob>> refs;
  for (std::uint64_t i = 0; i < 1 + order.value % 4; ++i)
    refs.push_back(account.call<&Account::add>(caller.order(key, mix(order.value, i))));
  auto value = order.value;
  for (const auto& ref : refs) value = fold(value, co_await await_outcome(ref));
  co_return give(value);
}

Actor<Account> open_account(Order order, std::uint64_t key) {
  ledger->ran(order.ticket);
  ledger->opens(key);
  return spawn<Account>(order.value, key, 1U);
}

/// One call inside the actor: in order, and not with others.
struct Account::Visit {
  Visit(Account& a, const CallOrder& order) : account(a) {
    if (order.actor != account.key_)
      ledger->fail(fmt::format("a call for actor {} reached actor {}", order.actor, account.key_));
    if (account.at_once_ == 1)
      ledger->called(order, account.instance_);
    else
      ledger->ran(order.ticket);
    if (++account.inside_ > account.at_once_)
      ledger->fail(
          fmt::format("actor {}: {} calls at once, {} allowed", account.key_, account.inside_, account.at_once_));
  }
  ~Visit() { --account.inside_; }
  Visit(const Visit&) = delete;
  Account& account;
};

Account::Account(std::uint64_t value, std::uint64_t key, std::uint32_t at_once)
    : key_(key), instance_(++ledger->instances), at_once_(at_once), rank_(this_rank()) {
  ledger->built(key);
  ++ledger->objects[rank_];
  if (value == 0) {
    --ledger->objects[rank_];
    throw Refusal(0);
  }
}
Account::~Account() { --ledger->objects[rank_]; }

Blob Account::add(CallOrder order) {
  const Visit visit(*this, order);
  Rng rng(order.value);
  compute(rng);
  return make_blob(eval_add(order.value).value);
}
Blob Account::add_to(CallOrder order, const Blob& to) {
  const Visit visit(*this, order);
  Rng rng(order.value);
  compute(rng);
  return make_blob(mix(order.value, check_blob(to)));
}
Blob Account::add_both(CallOrder order, const Blob& a, Blob b) {
  const Visit visit(*this, order);
  const auto first = check_blob(a);
  return make_blob(mix(order.value, mix(first, check_blob(b))));
}
Async<Blob> Account::add_later(CallOrder order, Ref<Blob> to) {
  const Visit visit(*this, order);
  const auto outcome = co_await await_outcome(to);
  if (outcome.failed) throw Refusal(outcome.value);
  co_return make_blob(mix(order.value, outcome.value));
}
Ref<Blob> Account::delegate(CallOrder order) {
  const Visit visit(*this, order);
  return submit<&leaf>(new_order(order.value));
}
Blob Account::refuse(CallOrder order) {
  const Visit visit(*this, order);
  throw Refusal(order.value);
}
void Account::keep(CallOrder order, Ref<Blob> what) {
  const Visit visit(*this, order);
  kept_.push_back(std::move(what));
}
std::uint64_t Account::key(CallOrder order) const { return key_; }

}  // namespace trireme::sim
