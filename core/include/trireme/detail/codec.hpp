#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "trireme/detail/cell.hpp"

namespace trireme {
template <class T>
class Ref;
}

namespace trireme::detail {

/// Bytes that do not decode to the expected type. Caught by the runtime; callers see Errc::type_mismatch.
struct DecodeError {};

/// Writes values into bytes, references into a side table.
class Encoder {
 public:
  explicit Encoder(std::vector<std::byte>& out, std::vector<CellRef>& refs) : out(out), refs(refs) {}
  void raw(const void* data, std::size_t size) {
    if (size == 0) return;
    const auto at = out.size();
    out.resize(at + size);
    std::memcpy(out.data() + at, data, size);
  }
  void varint(std::uint64_t value);
  void ref(const CellRef& cell) {
    varint(refs.size());
    refs.push_back(cell);
  }
  std::vector<std::byte>& out;
  std::vector<CellRef>& refs;
};

/// Reads what Encoder wrote; throws DecodeError on anything else.
class Decoder {
 public:
  Decoder(std::span<const std::byte> in, std::span<const CellRef> refs) : in_(in), refs_(refs) {}
  std::span<const std::byte> raw(std::size_t size) {
    if (size > in_.size()) throw DecodeError{};
    const auto view = in_.first(size);
    in_ = in_.subspan(size);
    return view;
  }
  void copy(void* to, std::size_t size) {
    const auto view = raw(size);
    if (size != 0) std::memcpy(to, view.data(), size);
  }
  std::uint64_t varint();
  const CellRef& ref() { return ref_at(varint()); }
  const CellRef& ref_at(std::uint64_t index) const {
    if (index >= refs_.size()) throw DecodeError{};
    return refs_[index];
  }
  std::size_t left() const { return in_.size(); }

 private:
  std::span<const std::byte> in_;
  std::span<const CellRef> refs_;
};

template <class T>
inline constexpr bool is_plain_v =
    std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_member_pointer_v<T>;

/// Everything without a codec of its own goes through Boost.Serialization (trireme/serialization.hpp).
template <class T, class = void>
struct Codec;

template <class T>
struct Codec<T, std::enable_if_t<is_plain_v<T> && !std::is_same_v<T, bool>>> {
  static void encode(Encoder& out, const T& value) { out.raw(&value, sizeof(T)); }
  static T decode(Decoder& in) {
    alignas(T) std::byte room[sizeof(T)];
    in.copy(room, sizeof(T));
    return *std::launder(reinterpret_cast<T*>(room));
  }
};

/// A byte other than 0 and 1 is no bool in C++, so it must not reach one.
template <>
struct Codec<bool> {
  static void encode(Encoder& out, bool value) {
    const auto byte = static_cast<std::byte>(value);
    out.raw(&byte, 1);
  }
  static bool decode(Decoder& in) {
    std::byte byte;
    in.copy(&byte, 1);
    if (byte > std::byte{1}) throw DecodeError{};
    return byte == std::byte{1};
  }
};

/// Values whose elements lie in one piece: as a whole object they are their bare bytes, copied once on each side.
template <class T>
struct Contiguous : std::false_type {};

template <class E>
struct Contiguous<std::vector<E>> : std::bool_constant<is_plain_v<E> && !std::is_same_v<E, bool>> {
  static std::span<const std::byte> view(const std::vector<E>& v) { return std::as_bytes(std::span(v)); }
  static std::vector<E> from(std::span<const std::byte> bytes) {
    if (bytes.size() % sizeof(E) != 0) throw DecodeError{};
    const auto* first = reinterpret_cast<const E*>(bytes.data());
    if (reinterpret_cast<std::uintptr_t>(first) % alignof(E) == 0) return {first, first + bytes.size() / sizeof(E)};
    std::vector<E> v(bytes.size() / sizeof(E));
    if (!v.empty()) std::memcpy(v.data(), bytes.data(), bytes.size());
    return v;
  }
};

template <>
struct Contiguous<std::string> : std::true_type {
  static std::span<const std::byte> view(const std::string& s) { return std::as_bytes(std::span(s)); }
  static std::string from(std::span<const std::byte> b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }
};

template <class T>
struct Codec<T, std::enable_if_t<Contiguous<T>::value>> {
  static void encode(Encoder& out, const T& value) {
    const auto bytes = Contiguous<T>::view(value);
    out.varint(bytes.size());
    out.raw(bytes.data(), bytes.size());
  }
  static T decode(Decoder& in) {
    const auto size = in.varint();
    return Contiguous<T>::from(in.raw(size));
  }
};

template <class E>
struct Codec<std::vector<E>, std::enable_if_t<!Contiguous<std::vector<E>>::value>> {
  static void encode(Encoder& out, const std::vector<E>& value) {
    out.varint(value.size());
    for (const auto& item : value) Codec<E>::encode(out, item);
  }
  static std::vector<E> decode(Decoder& in) {
    const auto count = in.varint();
    // Every element takes at least one byte, so a count beyond what is left is a lie.
    if (count > in.left()) throw DecodeError{};
    std::vector<E> value;
    value.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) value.push_back(Codec<E>::decode(in));
    return value;
  }
};

template <class A, class B>
struct Codec<std::pair<A, B>, std::enable_if_t<!is_plain_v<std::pair<A, B>>>> {
  static void encode(Encoder& out, const std::pair<A, B>& value) {
    Codec<A>::encode(out, value.first);
    Codec<B>::encode(out, value.second);
  }
  static std::pair<A, B> decode(Decoder& in) {
    auto first = Codec<A>::decode(in);
    return {std::move(first), Codec<B>::decode(in)};
  }
};

template <class... Ts>
struct Codec<std::tuple<Ts...>, std::enable_if_t<!is_plain_v<std::tuple<Ts...>>>> {
  static void encode(Encoder& out, const std::tuple<Ts...>& value) {
    std::apply([&](const Ts&... each) { (Codec<Ts>::encode(out, each), ...); }, value);
  }
  static std::tuple<Ts...> decode(Decoder& in) { return std::tuple<Ts...>{Codec<Ts>::decode(in)...}; }
};

template <class T>
struct Codec<std::optional<T>, std::enable_if_t<!is_plain_v<std::optional<T>>>> {
  static void encode(Encoder& out, const std::optional<T>& value) {
    Codec<bool>::encode(out, value.has_value());
    if (value) Codec<T>::encode(out, *value);
  }
  static std::optional<T> decode(Decoder& in) {
    if (!Codec<bool>::decode(in)) return std::nullopt;
    return Codec<T>::decode(in);
  }
};

/// Puts bytes where objects of this size live: inline, or copied once into the arena.
Value store_bytes(std::span<const std::byte> bytes);
Value store_encoded(std::vector<std::byte> bytes, std::vector<CellRef> refs);

/// A whole object to wire form.
template <class T>
Value encode_value(const T& value) {
  if constexpr (requires { T::trireme_whole_value(value); }) {
    return T::trireme_whole_value(value);
  } else if constexpr (Contiguous<T>::value) {
    return store_bytes(Contiguous<T>::view(value));
  } else {
    std::vector<std::byte> bytes;
    std::vector<CellRef> refs;
    Encoder out(bytes, refs);
    Codec<T>::encode(out, value);
    return store_encoded(std::move(bytes), std::move(refs));
  }
}

template <class T>
T decode_value(const Value& value) {
  if constexpr (requires { T::trireme_from_whole(value); }) {
    return T::trireme_from_whole(value);
  } else if constexpr (Contiguous<T>::value) {
    return Contiguous<T>::from(value.view());
  } else {
    Decoder in(value.view(), value.refs);
    T whole = Codec<T>::decode(in);
    if (in.left() != 0) throw DecodeError{};
    return whole;
  }
}

[[noreturn]] void throw_decode_error(const std::type_info& wanted, std::size_t bytes);

/// The value of a ready cell: a reference to the typed one, or a decoded copy that lives as long as this object.
template <class T>
class Resolved {
 public:
  explicit Resolved(const Cell* cell) {
    switch (cell->form()) {
      case CellForm::typed:
        value_ = static_cast<const T*>(cell->typed());
        break;
      case CellForm::error:
        throw_error(cell->error());
      default:
        if (cell->value().lazy == Value::Lazy::no)
          decode(cell->value());
        else
          decode(pinned(cell));
    }
  }
  Resolved(const Resolved&) = delete;
  Resolved& operator=(const Resolved&) = delete;
  const T& operator*() const { return *value_; }
  T take() && {
    if (decoded_) return std::move(*decoded_);
    return *value_;
  }

 private:
  void decode(const Value& value) {
    try {
      decoded_.emplace(decode_value<T>(value));
    } catch (const DecodeError&) {
      throw_decode_error(typeid(T), value.view().size());
    }
    value_ = &*decoded_;
  }
  const T* value_ = nullptr;
  std::optional<T> decoded_;
};

/// The value type of functions that return nothing.
struct Nothing {};

template <class T>
class TypedCell final : public Cell, public CachedBlock {
 public:
  template <class... Args>
  explicit TypedCell(std::in_place_t, Args&&... args)
      : Cell(&kOps, CellKind::value), value_(std::in_place, std::forward<Args>(args)...) {}
  TypedCell(CellKind kind, CellRef parent) : Cell(&kOps, kind), parent(std::move(parent)) {}
  void set(T value) {
    value_.emplace(std::move(value));
    complete_typed();
  }
  /// The task that will fill an element cell, while it is pending.
  CellRef parent;

 private:
  static void destroy(Cell* cell) noexcept { delete static_cast<TypedCell*>(cell); }
  static const void* typed(const Cell* cell) noexcept { return &*static_cast<const TypedCell*>(cell)->value_; }
  static Value encode(const Cell* cell) { return encode_value<T>(*static_cast<const TypedCell*>(cell)->value_); }
  static constexpr CellOps kOps{destroy, typed, encode};
  std::optional<T> value_;
};

}  // namespace trireme::detail
