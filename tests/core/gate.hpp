#pragma once

#include "trireme/ref.hpp"

namespace trireme::test {

/// A value that the test gives when it likes: everything that depends on `ref` is pending until open().
template <class T = int>
class Gate {
 public:
  Gate() : cell_(detail::make_plain_cell()) {}
  Ref<T> ref() const { return Ref<T>(cell_); }
  void open(const T& value = T{}) const { cell_->complete(detail::encode_value(value)); }
  void fail(detail::ErrorInfo error) const { cell_->complete_error(std::move(error)); }

 private:
  detail::CellRef cell_;
};

/// Runs `step` and returns the exception of type E that it must throw.
template <class E, class F>
E thrown_by(F step) {
  try {
    step();
  } catch (const E& error) {
    return error;
  }
  throw std::logic_error("nothing was thrown");
}

}  // namespace trireme::test
