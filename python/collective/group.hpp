#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/collective/array.hpp"
#include "trireme/ml/communicator.hpp"

namespace trireme::python {

using Arrays = std::vector<std::shared_ptr<Array>>;

/// An operation under way, as Python waits for it.
class PyWork {
 public:
  explicit PyWork(ml::Work work) : work_(std::move(work)) {}
  void wait();
  bool test() const { return work_.test(); }

 private:
  ml::Work work_;
};

/// A communicator, and the memory that it uses: that stays in place even if nobody in Python holds it any more.
///
/// Threading: under the GIL, which is released while an operation runs. Errors: CollectiveError.
class Group {
 public:
  /// `exchange`: a Python function, see `_collective.pyi`. `timeout` in seconds.
  Group(std::uint32_t rank, std::uint32_t size, const pybind11::function& exchange, const std::string& name,
        double timeout, bool fixed_order);
  ~Group() { close(); }

  ml::Communicator& get();
  /// What is under way ends with an error.
  void close();
  /// Holds `memory` until the group is closed.
  void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }

  template <class Call>
  void run(Call call) {
    ml::Communicator& communicator = get();
    const pybind11::gil_scoped_release unlocked;
    call(communicator);
  }
  template <class Call>
  std::unique_ptr<PyWork> start(Arrays arrays, Call call) {
    ml::Communicator& communicator = get();
    std::erase_if(under_way_, [](const auto& one) { return one.first.test(); });
    ml::Work work;
    {
      const pybind11::gil_scoped_release unlocked;
      work = call(communicator);
    }
    under_way_.emplace_back(work, std::move(arrays));
    return std::make_unique<PyWork>(std::move(work));
  }

 private:
  std::optional<ml::Communicator> communicator_;
  std::vector<std::pair<ml::Work, Arrays>> under_way_;
  std::vector<std::shared_ptr<void>> kept_;
};

}  // namespace trireme::python
