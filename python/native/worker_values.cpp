#include "python/native/worker_values.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "core/context.hpp"

namespace trireme::python {

namespace {

constexpr std::align_val_t kAlign{64};

[[noreturn]] void refuse(Errc code, std::string message) {
  detail::ErrorInfo info;
  info.code = code;
  info.message = std::move(message);
  throw Exception(std::move(info));
}

struct Pin final : Returned {
  explicit Pin(std::uint64_t pin) { number = pin; }
};

}  // namespace

WorkerValues::WorkerValues(WorkerLink& link, const WorkerCommand& command) : link_(link), rank_(command.rank) {
  const auto fd = transport::open_of_process(command.rank_pid, command.arena_fd, O_RDWR);
  if (fd) arena_ = transport::Mapping(fd.get(), 0, command.arena_bytes, true);
  if (!arena_)
    refuse(Errc::io,
           fmt::format("the {} bytes of shared memory of rank {} (process {}, descriptor {}): {}", command.arena_bytes,
                       command.rank, command.rank_pid, command.arena_fd, std::strerror(errno)));
  link_.on_return = [this](const Returned& returned) { on_return(returned); };
}

std::shared_ptr<WorkerRef> WorkerValues::draw(bool ready, bool of_actor_call) {
  const auto handle = next_handle_.fetch_add(2, std::memory_order_relaxed);
  std::shared_ptr<WorkerRef> ref(new WorkerRef(handle, ready, of_actor_call),
                                 [this](WorkerRef* gone) { link_.give_back(gone); });
  const std::lock_guard lock(refs_mutex_);
  refs_[handle] = ref;
  return ref;
}

RefPtr WorkerValues::receive(std::uint64_t handle) {
  if (handle == 0) return nullptr;
  std::shared_ptr<WorkerRef> ref;
  {
    const std::lock_guard lock(refs_mutex_);
    ref = refs_[handle].lock();
    // Counted while it lives: it says how often when it goes back.
    if (ref) ++ref->count;
  }
  if (ref) return ref;
  std::shared_ptr<WorkerRef> made(new WorkerRef(handle, false), [this](WorkerRef* gone) { link_.give_back(gone); });
  const std::lock_guard lock(refs_mutex_);
  auto& kept = refs_[handle];
  ref = kept.lock();
  if (!ref) {
    kept = made;
    return made;
  }
  // Another thread was faster; `made` gives its own count back.
  return ref;
}

void WorkerValues::on_return(const Returned& returned) {
  if (returned.count == 0) return;
  const std::lock_guard lock(refs_mutex_);
  const auto at = refs_.find(returned.number);
  if (at != refs_.end() && at->second.expired()) refs_.erase(at);
}

std::vector<RefPtr> WorkerValues::read_refs(Reader& in) {
  std::vector<RefPtr> refs;
  auto left = in.count();
  refs.reserve(left);
  for (; left != 0 && in.ok(); --left) refs.push_back(receive(in.varint()));
  return refs;
}

std::uint64_t WorkerValues::handle_of(const RefPtr& ref) {
  if (ref == nullptr) refuse(Errc::invalid_argument, "a reference was expected, this is None");
  return static_cast<const WorkerRef&>(*ref).number;
}

void WorkerValues::write_refs(Writer& out, std::span<const RefPtr> refs) {
  out.varint(refs.size());
  for (const auto& ref : refs) out.varint(handle_of(ref));
}

HeldValue WorkerValues::hold(BytesView blob, const Message& message) {
  std::uint32_t buffers = 0;
  if (blob.size() >= sizeof buffers) std::memcpy(&buffers, blob.data(), sizeof buffers);
  if (buffers == 0) return {blob, message, {}};
  auto* copy = static_cast<std::byte*>(::operator new(blob.size(), kAlign));
  std::shared_ptr<const void> keep(copy, [](std::byte* memory) { ::operator delete(memory, kAlign); });
  std::memcpy(copy, blob.data(), blob.size());
  return {BytesView(copy, blob.size()), std::move(keep), {}};
}

Got WorkerValues::read_value(Reader& in, const Message& message) {
  switch (in.get<Form>()) {
    case Form::pending:
      return std::monostate{};
    case Form::failed:
      return core::decode_error(in);
    case Form::inlined: {
      auto value = hold(in.blob(), message);
      value.refs = read_refs(in);
      return value;
    }
    case Form::located: {
      const auto at = Located::decode(in);
      HeldValue value;
      if (!in.ok()) WorkerLink::broken("located value");
      if (at.pin != 0) value.keep = std::shared_ptr<Pin>(new Pin(at.pin), [this](Pin* gone) { link_.give_back(gone); });
      value.refs = read_refs(in);
      value.blob = locate(at);
      return value;
    }
  }
  WorkerLink::broken("value");
}

BytesView WorkerValues::locate(const Located& at) {
  std::span<std::byte> arena;
  if (at.rank == rank_) {
    arena = arena_.bytes();
  } else {
    const std::lock_guard lock(arenas_mutex_);
    auto& mapping = arenas_[at.rank];
    if (!mapping) {
      const auto fd = transport::open_of_process(at.pid, at.fd, O_RDONLY);
      if (fd) mapping = transport::Mapping(fd.get(), 0, at.arena_bytes, false);
      if (!mapping) {
        const auto why = std::string(std::strerror(errno));
        arenas_.erase(at.rank);
        refuse(Errc::object_lost, fmt::format("a value of {} bytes in the shared memory of rank {} (process {}): {}",
                                              at.size, at.rank, at.pid, why));
      }
    }
    arena = mapping.bytes();
  }
  if (at.offset > arena.size() || at.size > arena.size() - at.offset) WorkerLink::broken("place of a value");
  return arena.subspan(at.offset, at.size);
}

std::span<std::byte> WorkerValues::space(const Located& at) {
  const auto arena = arena_.bytes();
  if (at.rank != rank_ || at.offset > arena.size() || at.size > arena.size() - at.offset)
    WorkerLink::broken("place for a value");
  return arena.subspan(at.offset, at.size);
}

void WorkerValues::give_back_pin(std::uint64_t pin) {
  if (pin != 0) link_.give_back(new Pin(pin));
}

}  // namespace trireme::python
