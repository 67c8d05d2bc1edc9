#include "python/native/worker_api.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/context.hpp"
#include "python/native/call.hpp"

namespace trireme::python {

namespace {

/// A frame being written; its memory is used again by the thread's next one.
class Outbox {
 public:
  explicit Outbox(Frame kind) : out(begin(buffer(), kind)) {}
  ~Outbox() {
    if (buffer().capacity() > kKeepBytes) Bytes().swap(buffer());
  }
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  BytesView frame() const { return buffer(); }
  Writer out;

 private:
  static constexpr std::size_t kKeepBytes = 256U << 10;
  static Bytes& buffer() {
    thread_local Bytes bytes;
    return bytes;
  }
};

const Api::Check kNoCheck;

}  // namespace

WorkerApi::WorkerApi(const WorkerCommand& command) : command_(command), link_(command_), values_(link_, command_) {
  link_.on_late = [this](Late late, const Message& message, Reader& in) {
    switch (late) {
      case Late::nothing:
        return;
      case Late::handle:
        values_.receive(in.varint());
        return;
      case Late::values:
        for (auto left = in.count(); left != 0 && in.ok(); --left) values_.read_value(in, message);
        return;
      case Late::room:
        return values_.give_back_pin(Located::decode(in).pin);
    }
  };
}

// --- Requests

WorkerApi::Answered WorkerApi::answered(Message message) const {
  Reader in(*message);
  in.get<Frame>();
  in.varint();
  switch (in.get<Answer>()) {
    case Answer::ok:
      return {std::move(message), in};
    case Answer::error:
      detail::throw_error(core::decode_error(in));
    case Answer::forgotten: {
      detail::ErrorInfo info;
      info.code = Errc::timeout;
      info.message = "the time passed before everything asked for was there";
      throw TimeoutError(std::move(info));
    }
  }
  WorkerLink::broken("answer");
}

void WorkerApi::give_up(std::uint64_t request) {
  Outbox forget(Frame::forget);
  forget.out.varint(request);
  link_.send(forget.frame());
}

WorkerApi::Answered WorkerApi::ask(std::uint64_t request, BytesView frame, const Check& interrupted) {
  link_.send(frame);
  try {
    return answered(link_.await(request, kForever, interrupted));
  } catch (const Interrupted&) {
    give_up(request);
    throw;
  }
}

Message WorkerApi::await_or_tell(std::uint64_t request, Nanos deadline, Frame then, const Check& interrupted) {
  try {
    if (auto message = link_.await(request, deadline, interrupted)) return message;
    {
      Outbox tell(then);
      tell.out.varint(request);
      link_.send(tell.frame());
    }
    // Answered in any case, with what came in the meantime if it did.
    return link_.await(request, kForever, interrupted);
  } catch (const Interrupted&) {
    give_up(request);
    throw;
  }
}

// --- Values and calls

WorkerApi::Outgoing WorkerApi::place(const ValueSource& value, const Check& interrupted) {
  Outgoing outgoing;
  // Before there is anything to give back.
  for (const auto& ref : value.refs) WorkerValues::handle_of(ref);
  std::array<std::uint64_t, 8> few{};
  std::vector<std::uint64_t> many;
  std::span<std::uint64_t> sizes(few.data(), std::min(few.size(), value.buffers.size()));
  if (value.buffers.size() > few.size()) {
    many.resize(value.buffers.size());
    sizes = many;
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = value.buffers[i].size();
  outgoing.layout = layout_of(value.data.size(), sizes);
  if (outgoing.layout.total <= kInlineBytesMax) return outgoing;
  const auto request = link_.open(Late::room);
  Located at;
  {
    Outbox room(Frame::room);
    room.out.varint(request);
    room.out.varint(outgoing.layout.total);
    auto answer = ask(request, room.frame(), interrupted);
    at = Located::decode(answer.in);
    if (!answer.in.ok() || at.size < outgoing.layout.total) WorkerLink::broken("room");
  }
  pack(outgoing.layout, value.data, value.buffers, values_.space(at).first(outgoing.layout.total));
  outgoing.pin = at.pin;
  return outgoing;
}

void WorkerApi::write(Writer& out, const ValueSource& value, const Outgoing& outgoing) {
  if (outgoing.pin != 0) {
    out.put(Form::located);
    out.varint(outgoing.pin);
  } else {
    out.put(Form::inlined);
    out.varint(outgoing.layout.total);
    auto& bytes = out.bytes();
    const auto at = bytes.size();
    bytes.resize(at + outgoing.layout.total);
    pack(outgoing.layout, value.data, value.buffers, std::span(bytes).subspan(at));
  }
  WorkerValues::write_refs(out, value.refs);
}

std::vector<RefPtr> WorkerApi::draw_results(const CallSource& call, bool of_actor) {
  std::vector<RefPtr> results(call.streaming >= 0 ? 2 : call.returns);
  for (auto& result : results) result = values_.draw(false, of_actor);
  return results;
}

void WorkerApi::write_results(Writer& out, const std::vector<RefPtr>& results) {
  WorkerValues::write_refs(out, results);
}

void WorkerApi::write_call(Writer& out, const CallSource& call, const CallerOptions* options) {
  // Large arguments first: asking for room sends frames of its own.
  const auto args = place(call.args, kNoCheck);
  Bytes packed;
  if (args.pin == 0) {
    packed.resize(args.layout.total);
    pack(args.layout, call.args.data, call.args.buffers, packed);
  }
  auto kind = kind_of(call, options);
  kind.streaming = call.streaming >= 0;
  if (options != nullptr) kind.max_retries = options->call.max_retries;
  CallText::encode(out, kind, packed, call.deps, false, 0);
  out.varint(args.pin);
  WorkerValues::write_refs(out, call.args.refs);
}

std::vector<RefPtr> WorkerApi::submit(const CallSource& call, const CallerOptions* options) {
  auto results = draw_results(call, false);
  Bytes frame;
  auto out = begin(frame, Frame::submit);
  write_results(out, results);
  write_call(out, call, options);
  out.put(static_cast<std::uint8_t>(options != nullptr));
  if (options != nullptr) options->call.encode(out);
  if (call.streaming >= 0) out.put(static_cast<std::int32_t>(call.streaming));
  link_.send(frame);
  return results;
}

RefPtr WorkerApi::create_actor(const CallSource& call, const CallerOptions& options, const Check& interrupted) {
  RefPtr actor = values_.draw();
  const bool named = !options.call.name.empty();
  const auto request = named ? link_.open(Late::nothing) : 0;
  Bytes frame;
  auto out = begin(frame, Frame::create);
  out.varint(request);
  out.varint(WorkerValues::handle_of(actor));
  write_call(out, call, &options);
  out.put(std::uint8_t{1});
  options.call.encode(out);
  if (named)
    ask(request, frame, interrupted);
  else
    link_.send(frame);
  return actor;
}

std::vector<RefPtr> WorkerApi::call(const RefPtr& actor, const CallSource& call) {
  auto results = draw_results(call, true);
  Bytes frame;
  auto out = begin(frame, Frame::call);
  out.varint(WorkerValues::handle_of(actor));
  write_results(out, results);
  write_call(out, call, nullptr);
  if (call.streaming >= 0) out.put(static_cast<std::int32_t>(call.streaming));
  link_.send(frame);
  return results;
}

RefPtr WorkerApi::put(const ValueSource& value, const Check& interrupted) {
  const auto outgoing = place(value, interrupted);
  RefPtr ref = values_.draw(true);
  Outbox put(Frame::put);
  put.out.varint(WorkerValues::handle_of(ref));
  write(put.out, value, outgoing);
  link_.send(put.frame());
  return ref;
}

std::vector<Got> WorkerApi::get(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) {
  const auto request = link_.open(Late::values);
  {
    Outbox get(Frame::get);
    get.out.varint(request);
    WorkerValues::write_refs(get.out, refs);
    link_.send(get.frame());
  }
  auto answer = answered(await_or_tell(request, deadline, Frame::forget, interrupted));
  std::vector<Got> got;
  auto left = answer.in.count();
  if (left != refs.size()) WorkerLink::broken("answer to get");
  got.reserve(left);
  for (; left != 0; --left) {
    got.push_back(values_.read_value(answer.in, answer.message));
    if (got.back().index() != 0) WorkerValues::of(refs[got.size() - 1]).set_ready();
  }
  if (!answer.in.ok()) WorkerLink::broken("answer to get");
  return got;
}

std::vector<bool> WorkerApi::wait(std::span<const RefPtr> refs, std::size_t count, Nanos deadline,
                                  const Check& interrupted) {
  std::vector<bool> ready(refs.size());
  std::size_t known = 0;
  for (std::size_t i = 0; i < refs.size(); ++i) {
    WorkerValues::handle_of(refs[i]);
    ready[i] = refs[i]->ready();
    known += ready[i] ? 1 : 0;
  }
  if (known >= std::min(count, refs.size())) return ready;
  const auto request = link_.open(Late::nothing);
  {
    Outbox wait(Frame::wait);
    wait.out.varint(request);
    wait.out.varint(count);
    WorkerValues::write_refs(wait.out, refs);
    link_.send(wait.frame());
  }
  auto answer = answered(await_or_tell(request, deadline, Frame::wait_now, interrupted));
  const auto marks = answer.in.blob();
  if (marks.size() != refs.size()) WorkerLink::broken("answer to wait");
  for (std::size_t i = 0; i < refs.size(); ++i) {
    ready[i] = marks[i] != std::byte{0};
    if (ready[i]) WorkerValues::of(refs[i]).set_ready();
  }
  return ready;
}

void WorkerApi::watch(const RefPtr& ref, std::uint64_t token) {
  const auto handle = WorkerValues::handle_of(ref);
  {
    const std::lock_guard lock(watched_mutex_);
    watched_[token] = ref;
  }
  Outbox watch(Frame::watch);
  watch.out.varint(token);
  watch.out.varint(handle);
  link_.send(watch.frame());
}

std::vector<std::uint64_t> WorkerApi::next_watched(const Check& interrupted) {
  auto tokens = link_.next_events(interrupted);
  std::vector<RefPtr> refs;  // may be the last to have them: not to be destroyed under the lock
  const std::lock_guard lock(watched_mutex_);
  for (const auto token : tokens) {
    const auto at = watched_.find(token);
    if (at == watched_.end()) continue;
    if (auto ref = at->second.lock()) {
      WorkerValues::of(ref).set_ready();
      refs.push_back(std::move(ref));
    }
    watched_.erase(at);
  }
  return tokens;
}

RefPtr WorkerApi::stream_next(const RefPtr& stream) {
  RefPtr item = values_.draw();
  Outbox next(Frame::stream_next);
  next.out.varint(WorkerValues::handle_of(stream));
  next.out.varint(WorkerValues::handle_of(item));
  link_.send(next.frame());
  return item;
}

// --- The rest of what can be asked

void WorkerApi::kill(const RefPtr& actor, bool no_restart) {
  Outbox kill(Frame::kill);
  kill.out.varint(WorkerValues::handle_of(actor));
  kill.out.put(static_cast<std::uint8_t>(no_restart));
  link_.send(kill.frame());
}

RefPtr WorkerApi::find_actor(const std::string& name, const Check& interrupted) {
  const auto request = link_.open(Late::handle);
  Outbox find(Frame::find);
  find.out.varint(request);
  find.out.text(name);
  auto answer = ask(request, find.frame(), interrupted);
  return values_.receive(answer.in.varint());
}

void WorkerApi::cancel(const RefPtr& ref, bool force, bool recursive) {
  Outbox cancel(Frame::cancel_ref);
  cancel.out.varint(WorkerValues::handle_of(ref));
  cancel.out.put(static_cast<std::uint8_t>(force));
  cancel.out.put(static_cast<std::uint8_t>(recursive));
  link_.send(cancel.frame());
}

std::int64_t WorkerApi::actor_rank(const RefPtr& actor, const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Outbox ask_rank(Frame::actor_rank);
  ask_rank.out.varint(request);
  ask_rank.out.varint(WorkerValues::handle_of(actor));
  return ask(request, ask_rank.frame(), interrupted).in.get<std::int64_t>();
}

std::optional<detail::ErrorInfo> WorkerApi::failure(const RefPtr& ref, const Check& interrupted) {
  const auto handle = WorkerValues::handle_of(ref);
  if (!ref->ready()) return std::nullopt;
  const auto request = link_.open(Late::nothing);
  Outbox failure(Frame::failure);
  failure.out.varint(request);
  failure.out.varint(handle);
  auto answer = ask(request, failure.frame(), interrupted);
  if (answer.in.get<std::uint8_t>() == 0) return std::nullopt;
  return core::decode_error(answer.in);
}

ObjectId WorkerApi::identify(const RefPtr& ref, const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Outbox identify(Frame::identify);
  identify.out.varint(request);
  identify.out.varint(WorkerValues::handle_of(ref));
  const auto id = ask(request, identify.frame(), interrupted).in.id();
  WorkerValues::of(ref).identify(id);
  return id;
}

void WorkerApi::export_blob(BytesView key, BytesView blob) {
  Bytes frame;
  auto out = begin(frame, Frame::exported);
  out.blob(key);
  out.blob(blob);
  link_.send(frame);
}

Bytes WorkerApi::imported(Rank rank, BytesView key, const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Outbox imported(Frame::imported);
  imported.out.varint(request);
  imported.out.varint(rank);
  imported.out.blob(key);
  auto answer = ask(request, imported.frame(), interrupted);
  const auto blob = answer.in.blob();
  return Bytes(blob.begin(), blob.end());
}

GroupHandle WorkerApi::create_group(GroupStrategy strategy, const std::vector<Resources>& bundles,
                                    const GroupLabels& labels, const Check& interrupted) {
  const auto request = link_.open(Late::handle);
  Outbox group(Frame::group);
  group.out.varint(request);
  group.out.put(strategy);
  group.out.varint(bundles.size());
  for (const auto& bundle : bundles) encode_resources(group.out, bundle);
  encode_labels(group.out, labels);
  auto answer = ask(request, group.frame(), interrupted);
  GroupHandle handle;
  handle.ready = values_.receive(answer.in.varint());
  handle.id = answer.in.id();
  return handle;
}

void WorkerApi::remove_group(ObjectId id) {
  Outbox removed(Frame::group_removed);
  removed.out.id(id);
  link_.send(removed.frame());
}

std::string WorkerApi::ranks(const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Outbox ranks(Frame::ranks);
  ranks.out.varint(request);
  auto answer = ask(request, ranks.frame(), interrupted);
  return std::string(answer.in.text());
}

std::string WorkerApi::objects(const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Outbox objects(Frame::objects);
  objects.out.varint(request);
  auto answer = ask(request, objects.frame(), interrupted);
  return std::string(answer.in.text());
}

RefPtr WorkerApi::myself(const Check& interrupted) {
  const auto request = link_.open(Late::handle);
  Outbox myself(Frame::myself);
  myself.out.varint(request);
  auto answer = ask(request, myself.frame(), interrupted);
  auto actor = values_.receive(answer.in.varint());
  if (actor == nullptr) return nullptr;
  const auto id = answer.in.id();
  if (!answer.in.ok()) WorkerLink::broken("answer to who this is");
  if (id) WorkerValues::of(actor).identify(id);
  return actor;
}

void WorkerApi::exit_actor() {
  Outbox exit(Frame::exit_actor);
  link_.send(exit.frame());
}

void WorkerApi::set_label(std::string_view label) {
  Outbox set(Frame::label);
  set.out.text(label);
  link_.send(set.frame());
}

// --- Work

bool WorkerApi::claim(std::int32_t slot) {
  if (slot < 0) return true;
  auto& word = link_.page().slots[static_cast<std::uint32_t>(slot) % kPipelineMax];
  auto queued = std::uint32_t{WorkerPage::kQueued};
  // acq_rel: pairs with Pool::take_back(); one of the two gets the task.
  if (word.compare_exchange_strong(queued, WorkerPage::kStarted, std::memory_order_acq_rel)) return true;
  word.store(WorkerPage::kFree, std::memory_order_release);  // pairs with Pool::start_task()
  return false;
}

WorkItem WorkerApi::read_work(const Message& message, Reader& in, std::int32_t& slot) {
  WorkItem item;
  item.message = message;
  item.token = in.get<std::uint64_t>();
  slot = in.get<std::int32_t>();
  switch (in.get<WorkKind>()) {
    case WorkKind::task:
      item.kind = WorkItem::Kind::task;
      break;
    case WorkKind::create:
      item.kind = WorkItem::Kind::create;
      break;
    case WorkKind::call:
      item.kind = WorkItem::Kind::call;
      break;
    default:
      WorkerLink::broken("kind of work");
  }
  item.attempt = static_cast<std::uint32_t>(in.varint());
  item.returns = static_cast<std::uint32_t>(in.varint());
  const auto flags = in.get<std::uint8_t>();
  item.streaming = (flags & 1U) != 0;
  const bool args_first = (flags & 2U) != 0;
  for (auto left = in.count(); left != 0 && in.ok(); --left) item.gpus.push_back(static_cast<int>(in.varint()));
  item.meta = in.blob();
  item.name = in.text();
  const auto args = in.blob();
  auto deps = in.count();
  item.deps.reserve(deps);
  for (; deps != 0 && in.ok(); --deps) item.deps.push_back(values_.read_value(in, message));
  if (args_first) {
    if (item.deps.empty() || item.deps.front().index() != 1) WorkerLink::broken("arguments");
    item.args = std::get<HeldValue>(std::move(item.deps.front()));
    item.deps.erase(item.deps.begin());
  } else {
    item.args = WorkerValues::hold(args, message);
  }
  item.args.refs = values_.read_refs(in);
  if (!in.ok() || item.args.refs.size() < item.deps.size()) WorkerLink::broken("work");
  for (std::size_t i = 0; i < item.deps.size(); ++i) item.args.refs[i] = nullptr;
  return item;
}

std::optional<WorkItem> WorkerApi::next(const Check& interrupted) {
  if (!std::exchange(greeted_, true)) {
    Outbox hello(Frame::hello);
    link_.send(hello.frame());
  }
  while (const auto message = link_.next_work(interrupted)) {
    if (auto item = take(message)) return item;
  }
  return std::nullopt;
}

std::optional<WorkItem> WorkerApi::try_next() {
  if (!greeted_) return std::nullopt;
  while (const auto message = link_.try_next_work()) {
    if (auto item = take(message)) return item;
  }
  return std::nullopt;
}

std::optional<WorkItem> WorkerApi::take(const Message& message) {
  Reader in(*message);
  if (in.get<Frame>() == Frame::cancel) {
    WorkItem item;
    item.kind = WorkItem::Kind::cancel;
    item.token = in.get<std::uint64_t>();
    if (!in.done()) WorkerLink::broken("cancel");
    return item;
  }
  std::int32_t slot = -1;
  auto item = read_work(message, in, slot);
  // What is not run gives back what it holds.
  if (claim(slot)) return item;
  return std::nullopt;
}

void WorkerApi::finish(std::uint64_t token, std::span<const ValueSource> results) {
  // Asking for room sends frames of its own, so it comes first.
  std::vector<Outgoing> outgoing;
  outgoing.reserve(results.size());
  try {
    for (const auto& result : results) outgoing.push_back(place(result, kNoCheck));
  } catch (...) {
    for (const auto& placed : outgoing) values_.give_back_pin(placed.pin);
    throw;
  }
  Outbox done(Frame::done);
  done.out.put(token);
  done.out.varint(results.size());
  for (std::size_t i = 0; i < results.size(); ++i) write(done.out, results[i], outgoing[i]);
  link_.send(done.frame());
}

void WorkerApi::fail(std::uint64_t token, std::string_view message, std::string_view type, BytesView payload) {
  Bytes frame;
  auto out = begin(frame, Frame::failed);
  out.put(token);
  out.text(message);
  out.text(type);
  out.blob(payload);
  link_.send(frame);
}

void WorkerApi::yield_item(std::uint64_t token, const ValueSource& value, const Check& interrupted) {
  const auto outgoing = place(value, interrupted);
  const auto request = link_.open(Late::nothing);
  {
    Outbox yielded(Frame::yielded);
    yielded.out.varint(request);
    yielded.out.put(token);
    write(yielded.out, value, outgoing);
    link_.send(yielded.frame());
  }
  answered(link_.await(request, kForever, interrupted));
}

}  // namespace trireme::python
