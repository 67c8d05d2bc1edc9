#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/ids.hpp"

namespace trireme {

using Bytes = std::vector<std::byte>;
using BytesView = std::span<const std::byte>;

static_assert(std::endian::native == std::endian::little, "the wire format is the little-endian host format");

/// Appends to a byte vector. Integers are little-endian fixed width, or LEB128 where `varint` is named.
///
/// Threading: one owner. Errors: none (memory only).
class Writer {
 public:
  explicit Writer(Bytes& out) : out_(out) {}

  template <class T>
  requires std::is_trivially_copyable_v<T> &&(std::is_arithmetic_v<T> || std::is_enum_v<T>)void put(T value) {
    const auto at = out_.size();
    out_.resize(at + sizeof value);
    std::memcpy(out_.data() + at, &value, sizeof value);
  }
  void varint(std::uint64_t value);
  void id(ObjectId value) {
    varint(value.owner);
    varint(value.index);
  }
  void raw(BytesView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  /// varint length, then the bytes.
  void blob(BytesView bytes) {
    varint(bytes.size());
    raw(bytes);
  }
  void text(std::string_view value) { blob(std::as_bytes(std::span(value))); }

  Bytes& bytes() { return out_; }

 private:
  Bytes& out_;
};

/// Reads what Writer wrote from bytes that nobody vouches for.
///
/// Every read is bounds-checked. The first failure makes the reader bad for good: all later reads return zero or
/// empty, so a decoder reads straight through and checks `ok()` once at its end.
///
/// Threading: one owner. Lifetime: views returned point into the input.
class Reader {
 public:
  explicit Reader(BytesView in) : in_(in) {}

  template <class T>
  requires std::is_trivially_copyable_v<T> &&(std::is_arithmetic_v<T> || std::is_enum_v<T>)T get() {
    T value{};
    if (!need(sizeof value)) return T{};
    std::memcpy(&value, in_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::uint64_t varint();
  ObjectId id();
  BytesView raw(std::uint64_t size) {
    if (!need(size)) return {};
    const auto view = in_.subspan(at_, size);
    at_ += size;
    return view;
  }
  BytesView blob() { return raw(varint()); }
  std::string_view text() {
    const auto view = blob();
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }
  /// A count of items that take at least `item_bytes_min` bytes each; more than the rest can hold is a failure,
  /// so a hostile count cannot make the caller reserve memory.
  std::uint64_t count(std::size_t item_bytes_min = 1);
  BytesView rest() { return raw(in_.size() - at_); }
  std::size_t left() const { return in_.size() - at_; }
  bool ok() const { return ok_; }
  void fail() {
    ok_ = false;
    at_ = in_.size();
  }
  /// True when all was read and nothing failed.
  bool done() const { return ok_ && at_ == in_.size(); }

 private:
  bool need(std::uint64_t size) {
    if (size <= in_.size() - at_) return ok_;
    fail();
    return false;
  }
  BytesView in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace trireme
