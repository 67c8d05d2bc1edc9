#include "core/actors.hpp"
#include "python/cross/calls.hpp"
#include "python/native/requests.hpp"

/// C++ functions and actor classes of libraries, asked for by workers.
namespace trireme::python {

using detail::CellRef;

namespace {

/// What `make` gives, or a failed cell that says why not.
template <class F>
CellRef made(F make, CellRef (*failed)()) {
  try {
    return make();
  } catch (const Exception& refused) {
    auto cell = failed();
    cell->complete_error(refused.info());
    return cell;
  }
}

}  // namespace

cross::ExportedCall Requests::read_cpp(Reader& in, Worker& worker) {
  cross::ExportedCall call;
  call.library = in.text();
  call.name = in.text();
  call.args.value = read_value(in, worker);
  if (!call.args.value.refs.empty()) in.fail();
  call.deps = read_refs(in, worker);
  return call;
}

void Requests::keep_later(std::uint32_t index, std::uint64_t id, std::uint64_t handle, CellRef cell) {
  Pool::Lock lock(pool_.mutex_);
  if (auto* worker = pool_.find(index, id)) keep(*worker, handle, std::move(cell));
  pool_.unlock_and_run(lock);
}

void Requests::on_cpp_submit(Reader& in, Worker& worker) {
  const auto handle = in.varint();
  auto call = read_cpp(in, worker);
  std::optional<CallOptions> options;
  if (in.get<std::uint8_t>() != 0) options = CallOptions::decode(in);
  if (!in.done()) return in.fail();
  pool_.after([this, handle, call = std::move(call), options = std::move(options), index = worker.index,
               id = worker.id]() mutable {
    keep_later(index, id, handle,
               made([&] { return cross::submit_exported(std::move(call), options ? &*options : nullptr).cell(); },
                    &detail::make_plain_cell));
  });
}

void Requests::on_cpp_create(Reader& in, Worker& worker) {
  const auto handle = in.varint();
  auto call = read_cpp(in, worker);
  const auto options = CallOptions::decode(in);
  const auto max_concurrency = in.get<std::int32_t>();
  if (!in.done() || max_concurrency < 1) return in.fail();
  pool_.after(
      [this, handle, call = std::move(call), options, max_concurrency, index = worker.index, id = worker.id]() mutable {
        keep_later(index, id, handle,
                   made([&] { return cross::create_exported(std::move(call), options, max_concurrency).cell(); },
                        [] { return CellRef::adopt(new detail::ActorCell); }));
      });
}

void Requests::on_cpp_call(Reader& in, Worker& worker) {
  const auto actor = read_ref(in, worker);
  const auto handle = in.varint();
  auto call = read_cpp(in, worker);
  if (!in.done() || actor->kind() != detail::CellKind::actor) return in.fail();
  pool_.after([this, actor, handle, call = std::move(call), index = worker.index, id = worker.id]() mutable {
    keep_later(index, id, handle,
               made([&] { return cross::call_exported(actor, std::move(call)).cell(); }, &detail::make_plain_cell));
  });
}

}  // namespace trireme::python
