#include "python/native/requests.hpp"

#include <algorithm>
#include <cstring>

#include "core/actors.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using detail::CellRef;

// --- References and values

void Requests::keep(Worker& worker, std::uint64_t handle, CellRef cell) {
  worker.handle_of.try_emplace(cell.get(), handle);
  worker.handles[handle] = {std::move(cell), 1};
}

std::uint64_t Requests::handle_for(Worker& worker, const CellRef& cell) {
  if (!cell) return 0;
  const auto [at, fresh] = worker.handle_of.try_emplace(cell.get(), worker.next_handle);
  if (fresh) {
    worker.next_handle += 2;
    worker.handles[at->second] = {cell, 1};
  } else {
    ++worker.handles.at(at->second).given;
  }
  return at->second;
}

void Requests::write_refs(Writer& out, Worker& worker, std::span<const CellRef> refs, std::size_t hidden) {
  out.varint(refs.size());
  for (std::size_t i = 0; i < refs.size(); ++i) out.varint(i < hidden ? 0 : handle_for(worker, refs[i]));
}

void Requests::write(Writer& out, Worker& worker, Packed packed) {
  if (packed.error != nullptr) {
    out.put(Form::failed);
    return core::encode_error(out, *packed.error);
  }
  auto& value = packed.value;
  Located at;
  if (value.buffer && value.buffer.rank != kNoRank) at = pool_.arena_of(value.buffer.rank);
  if (at.fd >= 0) {
    at.offset = value.buffer.offset;
    at.size = value.buffer.size;
    at.pin = worker.next_pin++;
    worker.pins[at.pin] = value.buffer;
    out.put(Form::located);
    at.encode(out);
  } else {
    out.put(Form::inlined);
    out.blob(value.view());
  }
  write_refs(out, worker, value.refs);
}

CellRef Requests::read_ref(Reader& in, Worker& worker) {
  const auto at = worker.handles.find(in.varint());
  if (at != worker.handles.end()) return at->second.cell;
  in.fail();
  return {};
}

std::vector<CellRef> Requests::read_refs(Reader& in, Worker& worker) {
  std::vector<CellRef> refs(in.count());
  for (auto& ref : refs) ref = read_ref(in, worker);
  return refs;
}

detail::Value Requests::read_value(Reader& in, Worker& worker) {
  detail::Value value;
  const auto form = in.get<Form>();
  if (form == Form::inlined) {
    const auto blob = in.blob();
    value.bytes.assign(blob.begin(), blob.end());
  } else if (form == Form::located) {
    auto pin = worker.pins.extract(in.varint());
    if (pin.empty())
      in.fail();
    else
      value.buffer = std::move(pin.mapped());
  } else {
    in.fail();
  }
  value.refs = read_refs(in, worker);
  return value;
}

// --- Answers

void Requests::answer(std::uint32_t index, std::uint64_t id, std::uint64_t request,
                      const std::function<void(Writer&, Worker&)>& write) {
  Pool::Lock lock(pool_.mutex_);
  if (auto* worker = pool_.find(index, id)) {
    Bytes frame;
    auto out = begin(frame, Frame::reply);
    out.varint(request);
    out.put(Answer::ok);
    write(out, *worker);
    worker->end.send(frame);
  }
  pool_.unlock_and_run(lock);
}

void Requests::answer_error(std::uint32_t index, std::uint64_t id, std::uint64_t request,
                            const detail::ErrorInfo& error) {
  Pool::Lock lock(pool_.mutex_);
  if (auto* worker = pool_.find(index, id)) {
    Bytes frame;
    auto out = begin(frame, Frame::reply);
    out.varint(request);
    out.put(Answer::error);
    core::encode_error(out, error);
    worker->end.send(frame);
  }
  pool_.unlock_and_run(lock);
}

// --- Waiting

void Requests::on_wait(Reader& in, Worker& worker, bool get) {
  const auto request = in.varint();
  const auto wanted = get ? 0 : in.varint();
  auto refs = read_refs(in, worker);
  if (!in.done()) return in.fail();
  std::size_t ready = 0;
  bool failed = false;
  for (const auto& ref : refs) {
    if (!ref->ready()) continue;
    ++ready;
    failed = failed || ref->form() == detail::CellForm::error;
  }
  const auto count = get ? refs.size() : std::min<std::size_t>(wanted, refs.size());
  auto wait = std::make_shared<OpenWait>();
  wait->index = worker.index;
  wait->worker = worker.id;
  wait->request = request;
  wait->get = get;
  wait->refs = std::move(refs);
  if (ready >= count || (get && failed)) {
    wait->fired.store(true, std::memory_order_relaxed);
    pool_.after([this, wait] { settle(wait); });
    return;
  }
  wait->blocks = true;
  // All are watched; those that are ready now count at once.
  wait->left.store(static_cast<std::int64_t>(count), std::memory_order_relaxed);
  worker.open[request] = wait;
  pool_.set_blocked(worker, true);
  pool_.after([this, wait] {
    for (const auto& ref : wait->refs) {
      when_ready(ref, [this, wait, cell = ref.get()] {
        const bool enough = wait->left.fetch_sub(1, std::memory_order_acq_rel) == 1 ||
                            (wait->get && cell->form() == detail::CellForm::error);
        if (enough && !wait->fired.exchange(true, std::memory_order_acq_rel)) settle(wait);
      });
    }
  });
}

void Requests::on_wait_now(Reader& in, Worker& worker, bool forget) {
  const auto request = in.varint();
  if (!in.done()) return in.fail();
  const auto at = worker.open.find(request);
  if (at == worker.open.end()) return;
  const auto wait = at->second;
  if (!forget) {
    if (!wait->fired.exchange(true, std::memory_order_acq_rel)) pool_.after([this, wait] { settle(wait); });
    return;
  }
  wait->fired.store(true, std::memory_order_release);
  wait->answered = true;
  worker.open.erase(at);
  pool_.set_blocked(worker, false);
  Bytes frame;
  auto out = begin(frame, Frame::reply);
  out.varint(request);
  out.put(Answer::forgotten);
  worker.end.send(frame);
}

void Requests::settle(const std::shared_ptr<OpenWait>& wait) {
  if (!wait->get) return settle_with(wait, {});
  std::vector<Packed> held(wait->refs.size());
  bool evicted = false;
  for (std::size_t i = 0; i < held.size(); ++i) {
    auto* cell = wait->refs[i].get();
    if (!cell->ready()) continue;
    held[i].here = true;
    if (cell->form() == detail::CellForm::error)
      held[i].error = std::make_unique<detail::ErrorInfo>(cell->error());
    else if (cell->form() == detail::CellForm::typed)
      held[i].value = cell->ops()->encode(cell);
    else if (!detail::try_pinned(cell, held[i].value))
      evicted = true;
  }
  if (!evicted) return settle_with(wait, std::move(held));
  push_work(*pool_.context_.host, [this, wait] {
    std::vector<Packed> brought(wait->refs.size());
    for (std::size_t i = 0; i < brought.size(); ++i) {
      auto* cell = wait->refs[i].get();
      if (!cell->ready()) continue;
      brought[i].here = true;
      try {
        if (cell->form() == detail::CellForm::error)
          brought[i].error = std::make_unique<detail::ErrorInfo>(cell->error());
        else if (cell->form() == detail::CellForm::typed)
          brought[i].value = cell->ops()->encode(cell);
        else
          brought[i].value = detail::pinned(cell);
      } catch (const Exception& lost) {
        brought[i].error = std::make_unique<detail::ErrorInfo>(lost.info());
      }
    }
    settle_with(wait, std::move(brought));
  });
}

void Requests::settle_with(const std::shared_ptr<OpenWait>& wait, std::vector<Packed> held) {
  Pool::Lock lock(pool_.mutex_);
  auto* worker = pool_.find(wait->index, wait->worker);
  if (worker != nullptr && !std::exchange(wait->answered, true)) {
    worker->open.erase(wait->request);
    Bytes frame;
    auto out = begin(frame, Frame::reply);
    out.varint(wait->request);
    out.put(Answer::ok);
    if (wait->get) {
      out.varint(wait->refs.size());
      for (std::size_t i = 0; i < held.size(); ++i) {
        if (!held[i].here)
          out.put(Form::pending);
        else
          write(out, *worker, std::move(held[i]));
      }
    } else {
      out.varint(wait->refs.size());
      for (const auto& ref : wait->refs) out.put(static_cast<std::uint8_t>(ref->ready()));
    }
    if (wait->blocks) pool_.set_blocked(*worker, false);
    worker->end.send(frame);
  }
  // The references go outside the lock.
  pool_.after([refs = std::move(wait->refs)] {});
  pool_.unlock_and_run(lock);
}

void Requests::on_watch(Reader& in, Worker& worker) {
  const auto token = in.varint();
  const auto ref = read_ref(in, worker);
  if (!in.done()) return in.fail();
  pool_.after([this, token, ref, index = worker.index, id = worker.id] {
    when_ready(ref, [this, token, index, id] {
      Pool::Lock lock(pool_.mutex_);
      if (auto* watcher = pool_.find(index, id)) {
        Bytes frame;
        begin(frame, Frame::event).varint(token);
        watcher->end.send(frame);
      }
      pool_.unlock_and_run(lock);
    });
  });
}

void Requests::on_release(Reader& in, Worker& worker) {
  std::vector<CellRef> gone;
  std::vector<std::unique_ptr<StreamConsumer>> streams;
  for (auto left = in.count(2); left != 0 && in.ok(); --left) {
    const auto handle = in.varint();
    const auto count = in.varint();
    if (auto stream = worker.streams.extract(handle); !stream.empty()) {
      streams.push_back(std::move(stream.mapped()));
      continue;
    }
    const auto at = worker.handles.find(handle);
    if (at == worker.handles.end() || at->second.given < count) return in.fail();
    at->second.given -= count;
    if (at->second.given != 0) continue;
    if (const auto of = worker.handle_of.find(at->second.cell.get());
        of != worker.handle_of.end() && of->second == handle)
      worker.handle_of.erase(of);
    gone.push_back(std::move(at->second.cell));
    worker.handles.erase(at);
  }
  if (!in.done()) return in.fail();
  // Giving them up may run what others wait for.
  auto kept = std::make_shared<std::vector<std::unique_ptr<StreamConsumer>>>(std::move(streams));
  pool_.after([gone = std::move(gone), kept] {});
}

void Requests::drop(Worker& worker) {
  for (auto& [request, wait] : worker.open) {
    wait->fired.store(true, std::memory_order_release);
    wait->answered = true;
  }
}

}  // namespace trireme::python
