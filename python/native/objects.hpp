#pragma once

#include <string>
#include <utility>

#include "trireme/detail/cell.hpp"

namespace trireme::core {
class Session;
}

namespace trireme::python {

class Pool;

/// A cell that the interpreter in a rank's process holds, in the list that describe_objects() goes through.
///
/// Threading: any thread. Lifetime: whoever derives from it calls leave() first of all.
class HeldCell {
 public:
  /// `value`: it is held for the value that somebody reads, not by a reference.
  explicit HeldCell(detail::CellRef held, bool value = false) : cell(std::move(held)), value_(value) {}
  /// Puts those into the list that are chained by `before`; once each.
  static void enter(HeldCell* last);
  /// For enter(): `before` and what it is chained to enter with this one.
  void chain(HeldCell* before) { before_ = before; }
  /// Before the cell is let go.
  void leave();
  /// The runtime ends: what is in the list stays with whoever holds it and is not listed any more.
  static void leave_all();
  HeldCell(const HeldCell&) = delete;
  HeldCell& operator=(const HeldCell&) = delete;

  detail::CellRef cell;

 protected:
  ~HeldCell() = default;

 private:
  friend std::string describe_objects(core::Session& session, Pool& pool);
  HeldCell* next_ = nullptr;
  HeldCell* before_ = nullptr;
  bool listed_ = false;
  const bool value_;
};

/// What the processes of this rank have references to, and its calls that have not begun. JSON:
///   objects: {id, pid, type, size, task_status, reference_type, name}, once per object and process
///   tasks:   {key, name, state, actor}, those that wait for arguments, a place or a worker
/// An object that only C++ code, a value, or a rank elsewhere has a reference to is listed with the rank's pid.
///
/// Threading: under the token, without the pool's lock.
std::string describe_objects(core::Session& session, Pool& pool);

}  // namespace trireme::python
