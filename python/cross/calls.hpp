#pragma once

#include <memory>
#include <string>
#include <vector>

#include "python/cross/exported_call.hpp"
#include "python/native/api.hpp"
#include "trireme/actor.hpp"

namespace trireme::python::cross {

/// Runs an exported function, whose dependencies are there. What it throws carries the name that the user knows.
Blob run_exported(const ExportedCall& call);

/// An object of an exported class.
class ExportedActor {
 public:
  /// `deps`: the values of the arguments that were references.
  ExportedActor(const std::string& library, std::string name, const Blob& args, const std::vector<Ref<Blob>>& deps);
  /// As run_exported().
  Blob call(const ExportedCall& call);

 private:
  std::string name_;
  std::shared_ptr<void> object_;
};

/// `options` null: an ordinary task. Takes one reference over.
void submit_exported(trireme::detail::TaskBase* task, const CallOptions* options);
Actor<ExportedActor> create_exported(ExportedCall call, const CallOptions& options, int max_concurrency);
void call_exported(const trireme::detail::CellRef& actor, trireme::detail::CallBase* call);

}  // namespace trireme::python::cross
