#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "base/wire.hpp"

namespace trireme::python {

/// What the calls of a function with the same options have in common, apart from whose memory its texts are in.
template <class Blob, class Text>
struct CallKindOf {
  Blob meta;     ///< the package's own; names the function
  Text name;     ///< for messages
  Text env_key;  ///< tasks: the kind of worker that may run it
  Text env;      ///< how to start such a worker, or the actor's
  std::uint16_t returns = 1;
  bool streaming = false;
  bool placed = false;  ///< holds resources of the rank while it runs
  std::int32_t max_retries = 3;
  std::int32_t max_restarts = 0;      ///< actors
  std::int32_t max_task_retries = 0;  ///< actors
  double cpus = 1;
  double gpus = 0;
  ObjectId stream;  ///< where yielded values go: StreamTable of stream.owner; then only one call is of this kind
};
/// As it is written down and looked up. Valid with whatever it views.
using CallKindView = CallKindOf<BytesView, std::string_view>;

class CallKind;
using SharedKind = std::shared_ptr<const CallKind>;

/// As calls keep it: one record for all that wait.
///
/// Threading: immutable.
class CallKind : public CallKindOf<Bytes, std::string> {
 public:
  explicit CallKind(const CallKindView& kind);
  CallKindView view() const;

  /// The record of such calls; a new one when none of them was asked for lately. Any thread.
  static SharedKind of(const CallKindView& kind);
};

}  // namespace trireme::python
