#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "core/actors.hpp"
#include "python/native/control.hpp"
#include "python/native/objects.hpp"
#include "python/native/requests.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using detail::CellRef;

bool Requests::handle(Worker& worker, Frame kind, Reader& in) {
  const auto index = worker.index;
  const auto id = worker.id;
  switch (kind) {
    case Frame::submit:
      on_submit(in, worker);
      break;
    case Frame::create:
      on_create(in, worker);
      break;
    case Frame::call:
      on_call(in, worker);
      break;
    case Frame::cpp_submit:
      on_cpp_submit(in, worker);
      break;
    case Frame::cpp_create:
      on_cpp_create(in, worker);
      break;
    case Frame::cpp_call:
      on_cpp_call(in, worker);
      break;
    case Frame::put: {
      const auto handle = in.varint();
      auto cell = detail::make_plain_cell();
      cell->complete(read_value(in, worker));
      keep(worker, handle, std::move(cell));
      break;
    }
    case Frame::get:
      on_wait(in, worker, true);
      break;
    case Frame::wait:
      on_wait(in, worker, false);
      break;
    case Frame::wait_now:
      on_wait_now(in, worker, false);
      break;
    case Frame::forget:
      on_wait_now(in, worker, true);
      break;
    case Frame::watch:
      on_watch(in, worker);
      break;
    case Frame::release:
      on_release(in, worker);
      break;
    case Frame::unpin: {
      std::vector<detail::Buffer> gone;
      for (auto left = in.count(); left != 0 && in.ok(); --left) {
        auto pin = worker.pins.extract(in.varint());
        if (!pin.empty()) gone.push_back(std::move(pin.mapped()));
      }
      pool_.after([gone = std::move(gone)] {});
      break;
    }
    case Frame::room:
      on_room(in, worker);
      break;
    case Frame::kill: {
      const auto actor = read_ref(in, worker);
      const bool no_restart = in.get<std::uint8_t>() != 0;
      if (!in.done() || actor->kind() != detail::CellKind::actor) return false;
      pool_.after([this, actor, no_restart] {
        no_restart ? detail::kill_actor(actor) : restart_everywhere(pool_.session_.core(), pool_, actor);
      });
      break;
    }
    case Frame::find:
      on_find(in, worker);
      break;
    case Frame::cancel_ref: {
      const auto ref = read_ref(in, worker);
      const bool force = in.get<std::uint8_t>() != 0;
      const bool recursive = in.get<std::uint8_t>() != 0;
      if (!in.done()) return false;
      pool_.after([ref, force, recursive] { cancel_result(ref, {force, recursive}); });
      break;
    }
    case Frame::exported: {
      const auto key = in.text();
      const auto blob = in.blob();
      if (!in.done()) return false;
      ExportTable::instance().set(std::string(key), Bytes(blob.begin(), blob.end()));
      break;
    }
    case Frame::imported:
      on_imported(in, worker);
      break;
    case Frame::group:
      on_group(in, worker);
      break;
    case Frame::group_removed: {
      const auto group = in.id();
      pool_.after([group] { GroupTable::instance().remove(group); });
      break;
    }
    case Frame::ranks: {
      const auto request = in.varint();
      pool_.after([this, request, index, id] {
        const auto text = describe_ranks(pool_.session_);
        answer(index, id, request, [&](Writer& out, Worker&) { out.text(text); });
      });
      break;
    }
    case Frame::objects: {
      const auto request = in.varint();
      pool_.after([this, request, index, id] {
        const auto text = describe_objects(pool_.session_, pool_);
        answer(index, id, request, [&](Writer& out, Worker&) { out.text(text); });
      });
      break;
    }
    case Frame::actor_rank: {
      const auto request = in.varint();
      const auto actor = read_ref(in, worker);
      if (!in.done() || actor->kind() != detail::CellKind::actor) return false;
      pool_.after([this, request, index, id, actor] {
        when_ready(actor, [this, request, index, id, actor] {
          if (actor->form() == detail::CellForm::error) return answer_error(index, id, request, actor->error());
          Rank rank = kNoRank;
          std::memcpy(&rank, actor->value().view().data(), sizeof rank);
          answer(index, id, request, [rank](Writer& out, Worker&) { out.put(static_cast<std::int64_t>(rank)); });
        });
      });
      break;
    }
    case Frame::identify:
      on_identify(in, worker);
      break;
    case Frame::failure: {
      const auto request = in.varint();
      const auto ref = read_ref(in, worker);
      if (!in.done()) return false;
      const bool failed = ref->ready() && ref->form() == detail::CellForm::error;
      pool_.after([this, request, index, id, ref, failed] {
        answer(index, id, request, [&](Writer& out, Worker&) {
          out.put(static_cast<std::uint8_t>(failed));
          if (failed) core::encode_error(out, ref->error());
        });
      });
      break;
    }
    case Frame::stream_next: {
      const auto stream = worker.streams.find(in.varint());
      const auto handle = in.varint();
      if (!in.done() || stream == worker.streams.end()) return false;
      // Only this worker's frames end the stream, one at a time.
      pool_.after([this, consumer = stream->second.get(), handle, index, id] {
        auto item = consumer->next();
        Pool::Lock lock(pool_.mutex_);
        if (auto* reader = pool_.find(index, id)) keep(*reader, handle, std::move(item));
        pool_.unlock_and_run(lock);
      });
      break;
    }
    case Frame::exit_actor:
      if (worker.actor == nullptr) return false;
      worker.actor->exiting = true;
      break;
    case Frame::label:
      worker.label = in.text();
      break;
    case Frame::myself:
      on_myself(in, worker);
      break;
    case Frame::bell: {
      const auto request = in.varint();
      const auto pid = static_cast<int>(in.varint());
      const auto fd = static_cast<int>(in.varint());
      if (!in.done()) return false;
      auto bell = transport::open_of_process(pid, fd, O_WRONLY | O_NONBLOCK);
      if (!bell) {
        auto error = core::runtime_error(pool_.context_, Errc::io,
                                         fmt::format("the pipe that wakes worker process {} (its descriptor {}): {}",
                                                     pid, fd, std::strerror(errno)));
        pool_.after([this, request, index, id, error = std::move(error)] { answer_error(index, id, request, error); });
        break;
      }
      worker.end.set_bell(std::move(bell));
      pool_.after([this, request, index, id] { answer(index, id, request, [](Writer&, Worker&) {}); });
      break;
    }
    default:
      return false;
  }
  return in.ok();
}

CallText Requests::read_text(Reader& in, Worker& worker, std::vector<CellRef>& refs) {
  auto text = CallText::decode(in);
  const auto pin = in.varint();
  refs = read_refs(in, worker);
  if (text.deps > refs.size()) in.fail();
  if (pin != 0) {
    auto buffer = worker.pins.extract(pin);
    if (buffer.empty()) {
      in.fail();
    } else {
      auto args = detail::make_plain_cell();
      detail::Value value;
      value.buffer = std::move(buffer.mapped());
      args->complete(std::move(value));
      refs.insert(refs.begin(), std::move(args));
      text.args_ref = true;
      ++text.deps;
    }
  }
  text.key = draw_key(pool_.context_.self);
  return text;
}

void Requests::note_child(Worker& worker, std::uint64_t key, const CellRef& result) {
  if (worker.tasks.empty()) return;
  pool_.flights_.at(worker.tasks.front())->children.push_back({key, result.get()});
}

void Requests::bind_results(Worker& worker, const std::vector<std::uint64_t>& handles, MadeCall& made) {
  for (std::size_t i = 0; i < made.results.size(); ++i) keep(worker, handles[i], made.results[i]);
  if (made.stream) worker.streams[handles.back()] = std::make_unique<StreamConsumer>(made.stream, made.stream_index);
}

namespace {

std::vector<std::uint64_t> read_handles(Reader& in) {
  std::vector<std::uint64_t> handles(in.count());
  for (auto& handle : handles) handle = in.varint();
  return handles;
}

}  // namespace

void Requests::on_submit(Reader& in, Worker& worker) {
  const auto handles = read_handles(in);
  std::vector<CellRef> refs;
  auto text = read_text(in, worker, refs);
  CallOptions options;
  if (in.get<std::uint8_t>() != 0) options = CallOptions::decode(in);
  const std::int64_t streaming = text.kind->streaming ? in.get<std::int32_t>() : -1;
  if (!in.done() || handles.size() != (text.kind->streaming ? 2U : text.kind->returns)) return in.fail();
  apply(text, options);
  detail::TaskBase* task = nullptr;
  const auto key = text.key;
  auto made = prepare_task(std::move(text), std::move(refs), streaming, task);
  note_child(worker, key, made.results.front());
  bind_results(worker, handles, made);
  pool_.after([this, task, options = std::move(options), made = std::move(made)] {
    submit_prepared(pool_, task, options);
    if (made.stream) made.stream->watch_end(made.results.front());
  });
}

void Requests::on_call(Reader& in, Worker& worker) {
  const auto actor = read_ref(in, worker);
  const auto handles = read_handles(in);
  std::vector<CellRef> refs;
  auto text = read_text(in, worker, refs);
  const std::int64_t streaming = text.kind->streaming ? in.get<std::int32_t>() : -1;
  if (!in.done() || handles.size() != (text.kind->streaming ? 2U : text.kind->returns) ||
      actor->kind() != detail::CellKind::actor)
    return in.fail();
  const bool deps = text.deps != 0;
  detail::CallBase* call = nullptr;
  const auto key = text.key;
  auto made = prepare_call(std::move(text), std::move(refs), streaming, call);
  note_child(worker, key, made.results.front());
  bind_results(worker, handles, made);
  pool_.after([actor, call, deps, made = std::move(made)] {
    detail::call_actor(actor, call, deps);
    if (made.stream) made.stream->watch_end(made.results.front());
  });
}

void Requests::on_create(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto handle = in.varint();
  std::vector<CellRef> refs;
  auto text = read_text(in, worker, refs);
  CallOptions options;
  if (in.get<std::uint8_t>() != 0) options = CallOptions::decode(in);
  if (!in.done()) return in.fail();
  apply(text, options);
  const auto made = [this, request, handle, index = worker.index, id = worker.id](CellRef actor,
                                                                                  const detail::ErrorInfo* refusal) {
    if (refusal != nullptr) {
      // Its calls say why.
      actor = CellRef::adopt(new detail::ActorCell);
      actor->complete_error(*refusal);
    }
    {
      // Also when it was refused: the worker drew the handle and will release it.
      Pool::Lock lock(pool_.mutex_);
      if (auto* creator = pool_.find(index, id)) keep(*creator, handle, actor);
      pool_.unlock_and_run(lock);
    }
    if (request == 0) return;
    if (refusal != nullptr) return answer_error(index, id, request, *refusal);
    answer(index, id, request, [](Writer&, Worker&) {});
  };
  pool_.after([text = std::move(text), refs = std::move(refs), options = std::move(options), made]() mutable {
    // A name is asked for at rank 0: that takes a while.
    if (!options.name.empty()) return create_named_actor(std::move(text), std::move(refs), options, made);
    try {
      made(create_python_actor(std::move(text), std::move(refs), options), nullptr);
    } catch (const Exception& refused) {
      made({}, &refused.info());
    }
  });
}

void Requests::on_room(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto bytes = in.varint();
  if (!in.done()) return in.fail();
  auto give = [this, request, index = worker.index, id = worker.id](detail::Buffer buffer) {
    answer(index, id, request, [&](Writer& out, Worker& filler) {
      auto at = pool_.arena_of(pool_.context_.self);
      at.offset = buffer.offset;
      at.size = buffer.size;
      at.pin = filler.next_pin++;
      filler.pins[at.pin] = buffer;
      at.encode(out);
    });
  };
  pool_.after([this, request, bytes, give, index = worker.index, id = worker.id] {
    try {
      return give(detail::allocate_buffer(bytes));
    } catch (const Exception& full) {
      if (full.code() != Errc::out_of_memory) return answer_error(index, id, request, full.info());
    }
    // The producer is held back until memory is freed.
    push_work(*pool_.context_.host, [this, request, bytes, give, index, id] {
      try {
        give(detail::allocate_buffer(bytes));
      } catch (const Exception& refused) {
        answer_error(index, id, request, refused.info());
      }
    });
  });
}

void Requests::on_find(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto name = std::string(in.text());
  if (!in.done()) return in.fail();
  pool_.after([this, request, name, index = worker.index, id = worker.id] {
    pool_.session_.core().names().get(
        name, kActorType, [this, request, index, id](CellRef actor, const detail::ErrorInfo* error) {
          if (error != nullptr && error->code != Errc::not_found) return answer_error(index, id, request, *error);
          answer(index, id, request,
                 [&](Writer& out, Worker& asker) { out.varint(error != nullptr ? 0 : handle_for(asker, actor)); });
        });
  });
}

void Requests::on_imported(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto rank = static_cast<Rank>(in.varint());
  const auto key = std::string(in.text());
  if (!in.done()) return in.fail();
  pool_.after([this, request, rank, key, index = worker.index, id = worker.id] {
    const auto reply = [this, request, index, id](BytesView blob) {
      answer(index, id, request, [&](Writer& out, Worker&) { out.blob(blob); });
    };
    if (const auto blob = ExportTable::instance().find(key)) return reply(*blob);
    if (rank >= pool_.context_.size || rank == pool_.context_.self) {
      return answer_error(index, id, request,
                          core::runtime_error(pool_.context_, Errc::not_found,
                                              fmt::format("rank {} exported no function under that key", rank)));
    }
    fetch_export(pool_.session_.core(), rank, key,
                 [this, reply, request, index, id](const ExportTable::Blob& blob, const detail::ErrorInfo* error) {
                   error == nullptr ? reply(*blob) : answer_error(index, id, request, *error);
                 });
  });
}

void Requests::on_group(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto strategy = in.get<GroupStrategy>();
  std::vector<Resources> bundles(in.count(2));
  for (auto& bundle : bundles) bundle = decode_resources(in);
  const auto labels = decode_labels(in);
  if (!in.done() || strategy > GroupStrategy::strict_spread) return in.fail();
  pool_.after([this, request, strategy, bundles = std::move(bundles), labels, index = worker.index, id = worker.id] {
    try {
      const PlacementGroup group(strategy, bundles, labels);
      const auto name = GroupTable::instance().add(group);
      answer(index, id, request, [&](Writer& out, Worker& asker) {
        out.varint(handle_for(asker, group.ready().cell()));
        out.id(name);
      });
    } catch (const Exception& refused) {
      answer_error(index, id, request, refused.info());
    }
  });
}

void Requests::on_identify(Reader& in, Worker& worker) {
  const auto request = in.varint();
  const auto ref = read_ref(in, worker);
  if (!in.done()) return in.fail();
  pool_.after([this, request, ref, index = worker.index, id = worker.id] {
    const auto name = pool_.session_.core().refs().export_cell(ref.get()).id;
    answer(index, id, request, [&](Writer& out, Worker&) { out.id(name); });
  });
}

void Requests::on_myself(Reader& in, Worker& worker) {
  const auto request = in.varint();
  if (!in.done()) return in.fail();
  const auto key = worker.actor != nullptr ? worker.actor->key : 0;
  pool_.after([this, request, key, index = worker.index, id = worker.id] {
    if (key == 0) return answer(index, id, request, [](Writer& out, Worker&) { out.varint(0); });
    actor_of_key(pool_.session_.core(), rank_of_key(key), key, [this, request, index, id](CellRef actor) {
      answer(index, id, request, [&](Writer& out, Worker& asker) {
        out.varint(handle_for(asker, actor));
        // What is asked next.
        if (actor) out.id(actor->exported() ? actor->entry()->id : ObjectId{});
      });
    });
  });
}

}  // namespace trireme::python
