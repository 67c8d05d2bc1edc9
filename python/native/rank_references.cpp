#include "python/native/rank_references.hpp"

namespace trireme::python {

using detail::CellRef;

detail::ErrorInfo invalid(std::string message) {
  detail::ErrorInfo error;
  error.code = Errc::invalid_argument;
  error.message = std::move(message);
  return error;
}

RefPtr reference_of(CellRef cell) { return cell ? std::make_shared<CellReference>(std::move(cell)) : nullptr; }

const CellRef& cell_of(const RefPtr& ref) {
  const auto* held = dynamic_cast<const CellReference*>(ref.get());
  if (held == nullptr) throw Exception(invalid("the reference is a stream's or of another process: it has no value"));
  if (!held->holds.current())
    throw Exception(
        invalid("the reference is of a session that was shut down, and its object went with it: make it anew"));
  return held->cell;
}

}  // namespace trireme::python
