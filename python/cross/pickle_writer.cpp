#include <bit>
#include <cstring>
#include <string_view>

#include "python/cross/pickle.hpp"

namespace trireme::python::cross {

namespace {

class PickleWriter {
 public:
  explicit PickleWriter(Written& out) : out_(out) {
    op(0x80);
    op(5);
  }
  void end() { op('.'); }

  void call(std::string_view module, std::string_view name, const Value& arguments) {
    text(module);
    text(name);
    op(0x93);
    value(arguments);
    op('R');
  }
  void value(const Value& value) {
    std::visit([this](const auto& held) { write(held); }, value.data);
  }

 private:
  void op(unsigned char byte) { out_.data.push_back(static_cast<std::byte>(byte)); }
  template <class T>
  void number(T value) {
    raw(&value, sizeof value);
  }
  void raw(const void* data, std::size_t size) {
    const auto* first = static_cast<const std::byte*>(data);
    out_.data.insert(out_.data.end(), first, first + size);
  }
  void text(std::string_view text) {
    op(0x8d);
    number<std::uint64_t>(text.size());
    raw(text.data(), text.size());
  }

  void write(std::nullptr_t) { op('N'); }
  void write(bool value) { op(value ? 0x88 : 0x89); }
  void write(std::int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      op('J');
      return number(static_cast<std::int32_t>(value));
    }
    op(0x8a);
    op(8);
    number(value);
  }
  void write(double value) {
    op('G');
    number(__builtin_bswap64(std::bit_cast<std::uint64_t>(value)));
  }
  void write(const std::string& value) { text(value); }
  void write(const Value::Bytes& value) {
    op(0x8e);
    number<std::uint64_t>(value.size());
    raw(value.data(), value.size());
  }
  void write(const Value::List& items) {
    op(']');
    op('(');
    for (const auto& item : items) value(item);
    op('e');
  }
  void write(const Value::Tuple& tuple) {
    op('(');
    for (const auto& item : tuple.items) value(item);
    op('t');
  }
  void write(const Value::Dict& dict) {
    op('}');
    op('(');
    for (const auto& [key, item] : dict) {
      value(key);
      value(item);
    }
    op('u');
  }
  /// `trireme._cpp_values.array(buffer, "f8", shape)`
  void write(const AnyArray& array) {
    text("trireme._cpp_values");
    text("array");
    op(0x93);
    op('(');
    op(0x97);
    out_.arrays.push_back(array);
    text(array.type.kind + std::to_string(array.type.bytes));
    op('(');
    for (const auto extent : array.shape) write(static_cast<std::int64_t>(extent));
    op('t');
    op('t');
    op('R');
  }

  Written& out_;
};

}  // namespace

Written write_value(const Value& value) {
  Written written;
  PickleWriter writer(written);
  writer.value(value);
  writer.end();
  return written;
}

Bytes write_call(const std::string& module, const std::string& name, const Value& arguments) {
  Written written;
  PickleWriter writer(written);
  writer.call(module, name, arguments);
  writer.end();
  return written.data;
}

}  // namespace trireme::python::cross
