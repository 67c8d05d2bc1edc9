#include "python/native/worker_api.hpp"

/// C++ functions and actor classes of libraries, as a worker calls them.
namespace trireme::python {

void WorkerApi::write_cpp(Writer& out, const CppSource& call) {
  out.text(call.library);
  out.text(call.name);
  // Asking for room sends frames of its own.
  const auto args = place(call.args, {});
  write(out, call.args, args);
  WorkerValues::write_refs(out, call.deps);
}

RefPtr WorkerApi::cpp_submit(const CppSource& call, const CallerOptions* options) {
  RefPtr result = values_.draw();
  Bytes frame;
  auto out = begin(frame, Frame::cpp_submit);
  out.varint(WorkerValues::handle_of(result));
  write_cpp(out, call);
  out.put(static_cast<std::uint8_t>(options != nullptr));
  if (options != nullptr) options->call.encode(out);
  link_.send(frame);
  return result;
}

RefPtr WorkerApi::cpp_create(const CppSource& call, const CallerOptions& options, int max_concurrency) {
  RefPtr actor = values_.draw();
  Bytes frame;
  auto out = begin(frame, Frame::cpp_create);
  out.varint(WorkerValues::handle_of(actor));
  write_cpp(out, call);
  options.call.encode(out);
  out.put(static_cast<std::int32_t>(max_concurrency));
  link_.send(frame);
  return actor;
}

RefPtr WorkerApi::cpp_call(const RefPtr& actor, const CppSource& call) {
  RefPtr result = values_.draw();
  Bytes frame;
  auto out = begin(frame, Frame::cpp_call);
  out.varint(WorkerValues::handle_of(actor));
  out.varint(WorkerValues::handle_of(result));
  write_cpp(out, call);
  link_.send(frame);
  return result;
}

}  // namespace trireme::python
