#pragma once

#include <string>

#include "trireme/task.hpp"

namespace trireme {

template <class T>
class Actor;

namespace detail {

struct ActorCell;

/// Makes the cell; the object is constructed by `construct`, wherever the actor is placed.
/// Errors: Exception already_exists when the name is taken.
CellRef spawn_actor(CallBase* construct, const ActorOptions& options, const char* type);
void call_actor(const CellRef& actor, CallBase* call, bool deps);
void kill_actor(const CellRef& actor);
CellRef find_actor(const std::string& name, const char* type);
Rank actor_rank(const CellRef& actor);

template <class T, class... As>
Object construct(As... args) {
  return {new T(std::move(args)...), [](void* data) { delete static_cast<T*>(data); }};
}

template <class A>
struct Unref {
  using type = std::decay_t<A>;
};
template <class A>
struct Unref<Ref<A>> {
  using type = A;
};

}  // namespace detail

/// A handle on an object that lives in some rank and takes calls.
///
/// Calls from one thread of control run in the order they were made, one at a time unless the actor was spawned with
/// more concurrency. Handles can be copied and passed as arguments; the actor ends after its last call when the last
/// handle in the job is gone, or on kill().
///
/// Threading: like std::shared_ptr; call() from any thread.
template <class T>
class Actor {
 public:
  Actor() = default;
  explicit Actor(detail::CellRef cell) : cell_(std::move(cell)) {}

  /// Calls a method; returns at once with a reference to its result. A dead actor gives ActorDiedError in get().
  template <auto Method, class... Passed>
  Ref<detail::ResultOf<Method>> call(Passed&&... passed) const {
    using Class = std::remove_const_t<typename detail::Signature<decltype(Method)>::Object>;
    static_assert(std::is_same_v<Class, T>, "the method belongs to another class than the actor");
    auto* call = detail::make_invocation<detail::CallBase, Method>(std::forward<Passed>(passed)...);
    detail::CellRef result = detail::CellRef::adopt(call);
    detail::call_actor(cell_, call, detail::any_ref_v<Passed...>);
    return Ref<detail::ResultOf<Method>>(std::move(result));
  }

  /// Ends the actor now: calls that wait fail with ActorDiedError, one that runs is left to finish and its result
  /// dropped.
  void kill() const { detail::kill_actor(cell_); }
  /// The rank that hosts it. Blocks until it is placed.
  Rank rank() const { return detail::actor_rank(cell_); }
  explicit operator bool() const { return static_cast<bool>(cell_); }
  bool operator==(const Actor&) const = default;
  const detail::CellRef& cell() const { return cell_; }

  template <class Archive>
  void serialize(Archive& archive, unsigned version);

 private:
  detail::CellRef cell_;
};

namespace detail {
template <class T>
struct Codec<Actor<T>, void> {
  static void encode(Encoder& out, const Actor<T>& value) { Codec<Ref<T>>::encode(out, Ref<T>(value.cell())); }
  static Actor<T> decode(Decoder& in) { return Actor<T>(Codec<Ref<T>>::decode(in).cell()); }
};
}  // namespace detail

/// Creates an actor: `T(args...)` runs in the rank that is chosen for it. Returns at once; a constructor that throws
/// makes every call fail with ActorDiedError that carries its text.
template <class T, class... Passed>
Actor<T> spawn_with(const ActorOptions& options, Passed&&... passed) {
  constexpr auto make = &detail::construct<T, typename detail::Unref<std::remove_cvref_t<Passed>>::type...>;
  auto* call = detail::make_invocation<detail::CallBase, make>(std::forward<Passed>(passed)...);
  return Actor<T>(detail::spawn_actor(call, options, typeid(T).name()));
}
template <class T, class... Passed>
Actor<T> spawn(Passed&&... passed) {
  return spawn_with<T>(ActorOptions{}, std::forward<Passed>(passed)...);
}
/// The actor of that name. Errors: Exception not_found, with the names there are.
template <class T>
Actor<T> actor(const std::string& name) {
  return Actor<T>(detail::find_actor(name, typeid(T).name()));
}

}  // namespace trireme
