#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "python/native/api.hpp"
#include "python/native/call.hpp"
#include "trireme/actor.hpp"
#include "trireme/array.hpp"

namespace trireme::python::cross {

/// A packed value (wire.hpp) on its way: bytes, or memory of an arena, which is passed on and never copied in a node.
struct Blob {
  trireme::detail::Value value;

  static trireme::detail::Value trireme_whole_value(const Blob& blob);
  static Blob trireme_from_whole(const trireme::detail::Value& value) { return {value}; }
};

/// Packs in the arena when it is large.
Blob make_blob(BytesView data, std::span<const BytesView> buffers);

/// Runs an exported function; `deps` are the values of the arguments that were references.
Blob run_exported(const std::string& library, const std::string& name, const Blob& args,
                  const std::vector<Ref<Blob>>& deps);

/// An object of an exported class.
class ExportedActor {
 public:
  ExportedActor(const std::string& library, std::string name, const Blob& args, const std::vector<Ref<Blob>>& deps);
  Blob call(const std::string& method, const Blob& args, const std::vector<Ref<Blob>>& deps);

 private:
  std::string name_;
  std::shared_ptr<void> object_;
};

/// A call of something exported.
struct ExportedCall {
  std::string library;  ///< is loaded where it runs; empty: part of the program
  std::string name;     ///< of the function, the class, or the method
  Blob args;
  std::vector<trireme::detail::CellRef> deps;
};
Ref<Blob> submit_exported(ExportedCall call, const CallOptions* options);
Actor<ExportedActor> create_exported(ExportedCall call, const CallOptions& options, int max_concurrency);
Ref<Blob> call_exported(const trireme::detail::CellRef& actor, ExportedCall call);

}  // namespace trireme::python::cross

namespace trireme::detail {
/// As an argument: references to memory, small ones by their bytes.
template <>
struct Codec<python::cross::Blob, void> {
  static void encode(Encoder& out, const python::cross::Blob& blob);
  static python::cross::Blob decode(Decoder& in);
};
}  // namespace trireme::detail
