#pragma once

#include <iterator>
#include <ranges>
#include <tuple>

#include "trireme/detail/invocation.hpp"
#include "trireme/ref.hpp"

namespace trireme {

namespace detail {

/// Takes the queue's reference over. `deps`: some argument is a reference.
void submit_task(TaskBase* task, bool deps);
/// Options other than the default: through placement.
void submit_placed(TaskBase* task, const TaskOptions& options);
void attach_elements(Invocation* call);

template <class Base, auto F, class... Passed, std::size_t... I>
auto* make_block(std::index_sequence<I...>, Passed&&... passed) {
  using Params = typename Signature<decltype(F)>::Params;
  using Block =
      InvocationBlock<F, Base, decltype(make_arg<std::tuple_element_t<I, Params>>(std::forward<Passed>(passed)))...>;
  return new Block(make_arg<std::tuple_element_t<I, Params>>(std::forward<Passed>(passed))...);
}

template <class Base, auto F, class... Passed>
auto* make_invocation(Passed&&... passed) {
  static_assert(sizeof...(Passed) == std::tuple_size_v<typename Signature<decltype(F)>::Params>,
                "the number of arguments differs from the function's parameters");
  return make_block<Base, F>(std::index_sequence_for<Passed...>{}, std::forward<Passed>(passed)...);
}

template <class R>
struct ElementRefs;
template <class... Ts>
struct ElementRefs<std::tuple<Ts...>> {
  using type = std::tuple<Ref<Ts>...>;
  template <std::size_t... I>
  static type make(const std::vector<CellRef>& cells, std::index_sequence<I...>) {
    return {Ref<Ts>(cells[I])...};
  }
};

template <class... Passed>
inline constexpr bool any_ref_v = (is_ref_v<std::remove_cvref_t<Passed>> || ...);

}  // namespace detail

/// Runs F somewhere in the job and returns a reference to its result. Parameters are values or const references of the
/// types that F declares; any argument may be a Ref to such a value. An exception becomes the result (TaskError).
///
///     Ref<double> sum = trireme::submit<&add>(1.0, other_ref);
template <auto F, class... Passed>
Ref<detail::ResultOf<F>> submit(Passed&&... passed) {
  auto* task = detail::make_invocation<detail::TaskBase, F>(std::forward<Passed>(passed)...);
  detail::CellRef result = detail::CellRef::adopt(task);
  detail::submit_task(task, detail::any_ref_v<Passed...>);
  return Ref<detail::ResultOf<F>>(std::move(result));
}

template <auto F, class... Passed>
Ref<detail::ResultOf<F>> submit_with(const TaskOptions& options, Passed&&... passed) {
  auto* task = detail::make_invocation<detail::TaskBase, F>(std::forward<Passed>(passed)...);
  detail::CellRef result = detail::CellRef::adopt(task);
  detail::submit_placed(task, options);
  return Ref<detail::ResultOf<F>>(std::move(result));
}

/// For F that returns a std::tuple: one reference per element, each resolved and freed on its own.
template <auto F, class... Passed>
auto submit_split(Passed&&... passed) {
  using R = detail::ResultOf<F>;
  auto* task = detail::make_invocation<detail::TaskBase, F>(std::forward<Passed>(passed)...);
  detail::CellRef result = detail::CellRef::adopt(task);
  detail::attach_elements(task);
  auto refs = detail::ElementRefs<R>::make(task->extra->elements, std::make_index_sequence<std::tuple_size_v<R>>{});
  detail::submit_task(task, detail::any_ref_v<Passed...>);
  return refs;
}

/// One task per element of `items`, references in the same order.
template <auto F, std::ranges::input_range Range>
std::vector<Ref<detail::ResultOf<F>>> map(Range&& items) {
  std::vector<Ref<detail::ResultOf<F>>> refs;
  if constexpr (std::ranges::sized_range<Range>) refs.reserve(std::ranges::size(items));
  for (auto&& item : items) refs.push_back(submit<F>(std::forward<decltype(item)>(item)));
  return refs;
}

}  // namespace trireme
