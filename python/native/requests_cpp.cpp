#include "core/actors.hpp"
#include "python/cross/calls.hpp"
#include "python/native/requests.hpp"

/// C++ functions and actor classes of libraries, asked for by workers.
namespace trireme::python {

using detail::CellRef;

cross::ExportedCall Requests::read_cpp(Reader& in, Worker& worker) {
  cross::ExportedCall call;
  call.library = in.text();
  call.name = in.text();
  call.args.value = read_value(in, worker);
  if (!call.args.value.refs.empty()) in.fail();
  call.deps = read_refs(in, worker);
  call.key = draw_exported_key(pool_.context_.self);
  return call;
}

void Requests::keep_exported(Worker& worker, std::uint64_t handle, detail::Invocation* call) {
  auto result = CellRef::adopt(call);
  note_child(worker, cross::key_of_exported(call), result);
  keep(worker, handle, std::move(result));
}

void Requests::on_cpp_submit(Reader& in, Worker& worker) {
  const auto handle = in.varint();
  auto call = read_cpp(in, worker);
  std::optional<CallOptions> options;
  if (in.get<std::uint8_t>() != 0) options = CallOptions::decode(in);
  if (!in.done()) return in.fail();
  auto* task = cross::make_exported_task(std::move(call));
  keep_exported(worker, handle, task);
  pool_.after([task, options = std::move(options)] { cross::submit_exported(task, options ? &*options : nullptr); });
}

void Requests::on_cpp_create(Reader& in, Worker& worker) {
  const auto handle = in.varint();
  auto call = read_cpp(in, worker);
  const auto options = CallOptions::decode(in);
  const auto max_concurrency = in.get<std::int32_t>();
  if (!in.done() || max_concurrency < 1) return in.fail();
  pool_.after(
      [this, handle, call = std::move(call), options, max_concurrency, index = worker.index, id = worker.id]() mutable {
        CellRef actor;
        try {
          actor = cross::create_exported(std::move(call), options, max_concurrency).cell();
        } catch (const Exception& refused) {
          // Its calls say why.
          actor = CellRef::adopt(new detail::ActorCell);
          actor->complete_error(refused.info());
        }
        Pool::Lock lock(pool_.mutex_);
        if (auto* creator = pool_.find(index, id)) keep(*creator, handle, std::move(actor));
        pool_.unlock_and_run(lock);
      });
}

void Requests::on_cpp_call(Reader& in, Worker& worker) {
  const auto actor = read_ref(in, worker);
  const auto handle = in.varint();
  auto exported = read_cpp(in, worker);
  if (!in.done() || actor->kind() != detail::CellKind::actor) return in.fail();
  auto* call = cross::make_exported_call(std::move(exported));
  keep_exported(worker, handle, call);
  pool_.after([actor, call] { cross::call_exported(actor, call); });
}

}  // namespace trireme::python
