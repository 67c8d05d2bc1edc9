#include "python/cross/calls.hpp"

#include <utility>

#include "python/cross/pickle.hpp"
#include "python/cross/registry.hpp"
#include "trireme/array.hpp"
#include "trireme/python/cancel.hpp"

namespace trireme::detail {

void Codec<python::cross::Blob, void>::encode(Encoder& out, const python::cross::Blob& blob) {
  const bool apart = static_cast<bool>(blob.value.buffer);
  out.out.push_back(std::byte{apart});
  if (apart) return out.ref(cell_of_buffer(to_own_arena(blob.value.buffer)));
  out.varint(blob.value.bytes.size());
  out.raw(blob.value.bytes.data(), blob.value.bytes.size());
}

python::cross::Blob Codec<python::cross::Blob, void>::decode(Decoder& in) {
  python::cross::Blob blob;
  if (in.raw(1)[0] != std::byte{0}) {
    blob.value.buffer = buffer_of_cell(in.ref());
  } else {
    const auto bytes = in.raw(in.varint());
    blob.value.bytes.assign(bytes.begin(), bytes.end());
  }
  return blob;
}

}  // namespace trireme::detail

namespace trireme::python::cross {

namespace td = trireme::detail;

namespace {

/// What the cell of a dependency holds, whichever side of the language made it.
Blob value_of(td::Cell* cell) {
  td::wait_ready(cell, INT64_MAX);
  switch (cell->form()) {
    case td::CellForm::error:
      td::throw_error(cell->error());
    case td::CellForm::typed:
      return {cell->ops()->encode(cell)};
    default:
      return {cell->value().lazy == td::Value::Lazy::no ? cell->value() : td::pinned(cell)};
  }
}

Value read(const Blob& blob) {
  // Held by the arrays in it.
  const auto kept = std::make_shared<td::Value>(blob.value);
  return read_value(kept->view(), kept);
}

/// The arguments as the package packs them (_serialization.pack_args): nothing, a tuple, or with references a list
/// `[arguments, keywords, positions]`.
Value::List arguments(const Blob& args, const std::vector<td::CellRef>& deps) {
  Value value = read(args);
  if (value.is_none()) return {};
  if (auto* tuple = std::get_if<Value::Tuple>(&value.data)) return std::move(tuple->items);
  auto* call = std::get_if<Value::List>(&value.data);
  if (call == nullptr || call->size() != 3) throw ConversionError("the arguments of a call are no tuple");
  auto* items = std::get_if<Value::List>(&(*call)[0].data);
  const auto* positions = (*call)[2].get_if<Value::List>();
  if (items == nullptr || positions == nullptr || positions->size() != deps.size())
    throw ConversionError("the arguments of a call are no list");
  for (std::size_t i = 0; i < deps.size(); ++i) {
    const auto* at = (*positions)[i].get_if<std::int64_t>();
    if (at == nullptr || *at < 0 || static_cast<std::size_t>(*at) >= items->size())
      throw ConversionError("C++ functions have no keyword arguments");
    (*items)[static_cast<std::size_t>(*at)] = read(value_of(deps[i].get()));
  }
  return std::move(*items);
}

Blob result(const Value& value) {
  const auto written = write_value(value);
  std::vector<BytesView> buffers;
  for (const auto& array : written.arrays) buffers.emplace_back(array.data.get(), array.bytes());
  return make_blob(written.data, buffers);
}

/// Runs the body; what it throws carries the name that the user knows.
template <class F>
auto named(const std::string& name, F body) {
  try {
    return body();
  } catch (const Cancelled&) {
    auto error = td::current_exception_info(name);
    if (cancel_requested()) {
      error.code = Errc::cancelled;
      error.message = name + " was cancelled";
      error.type.clear();
    }
    td::throw_error(error);
  } catch (...) {
    td::throw_error(td::current_exception_info(name));
  }
}

std::vector<td::CellRef> cells_of(const std::vector<Ref<Blob>>& refs) {
  std::vector<td::CellRef> cells;
  for (const auto& ref : refs) cells.push_back(ref.cell());
  return cells;
}

}  // namespace

td::Value Blob::trireme_whole_value(const Blob& blob) {
  td::Value value;
  value.bytes = blob.value.bytes;
  if (blob.value.buffer) value.buffer = td::to_own_arena(blob.value.buffer);
  value.refs = blob.value.refs;
  return value;
}

Blob make_blob(BytesView data, std::span<const BytesView> buffers) {
  std::vector<std::uint64_t> sizes;
  for (const auto& buffer : buffers) sizes.push_back(buffer.size());
  const auto layout = layout_of(data.size(), sizes);
  Blob blob;
  if (layout.total <= kInlineBytesMax) {
    blob.value.bytes.resize(layout.total);
    pack(layout, data, buffers, blob.value.bytes);
  } else {
    blob.value.buffer = td::allocate_buffer(layout.total);
    pack(layout, data, buffers, {blob.value.buffer.data.get(), layout.total});
  }
  return blob;
}

Blob run_exported(const ExportedCall& call) {
  return named(call.name, [&] {
    const auto& callable = Registry::instance().function(call.name, call.library).callable;
    const auto values = arguments(call.args, call.deps);
    check_count(call.name, callable.parameters, values.size());
    return result(callable.invoke(nullptr, values));
  });
}

ExportedActor::ExportedActor(const std::string& library, std::string name, const Blob& args,
                             const std::vector<Ref<Blob>>& deps)
    : name_(std::move(name)) {
  named(name_, [&] {
    const auto& constructor = Registry::instance().actor(name_, library).constructor;
    if (constructor.make == nullptr)
      throw std::logic_error(
          "the class has no constructor without parameters and export_actor() names none: add .init<...>()");
    const auto values = arguments(args, cells_of(deps));
    check_count(name_, constructor.parameters, values.size());
    object_ = constructor.make(values);
  });
}

Blob ExportedActor::call(const ExportedCall& call) {
  const auto name = name_ + "." + call.name;
  return named(name, [&] {
    const auto& callable = Registry::instance().method(name_, call.name);
    const auto values = arguments(call.args, call.deps);
    check_count(name, callable.parameters, values.size());
    return result(callable.invoke(object_.get(), values));
  });
}

void submit_exported(td::TaskBase* task, const CallOptions* options) {
  if (options == nullptr) return td::submit_task(task, true);
  TaskOptions placed;
  placed.resources = options->resources;
  placed.placement = options->placement;
  placed.max_retries = options->max_retries;
  td::submit_placed(task, placed);
}

Actor<ExportedActor> create_exported(ExportedCall call, const CallOptions& options, int max_concurrency) {
  ActorOptions actor;
  actor.resources = options.resources;
  actor.placement = options.placement;
  actor.max_concurrency = max_concurrency;
  return spawn_with<ExportedActor>(actor, std::move(call.library), std::move(call.name), std::move(call.args),
                                   std::vector<Ref<Blob>>(call.deps.begin(), call.deps.end()));
}

void call_exported(const td::CellRef& actor, td::CallBase* call) { td::call_actor(actor, call, true); }

}  // namespace trireme::python::cross
