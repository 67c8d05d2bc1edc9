#include <bit>
#include <cstring>
#include <deque>
#include <optional>

#include <fmt/format.h>

#include "python/cross/pickle.hpp"

namespace trireme::python::cross {

namespace {

/// Deeper values, and those that contain themselves, are refused.
constexpr int kDepthMax = 100;
constexpr const char* kMayCross =
    "None, bool, int, float, str, bytes, tuple, list, dict and NumPy arrays can cross between "
    "Python and C++";

[[noreturn]] void refuse(const std::string& what) { throw ConversionError(what + "; " + kMayCross); }
[[noreturn]] void broken() { throw ConversionError("the bytes are no pickle of a value, or are cut off"); }

/// The reading of one pickle. Nodes are named by number: lists are filled after they were memoized.
class PickleReader {
 public:
  PickleReader(BytesView data, std::vector<BytesView> buffers, std::shared_ptr<const void> keep)
      : data_(data), buffers_(std::move(buffers)), keep_(std::move(keep)) {}

  Value read() {
    for (;;) {
      const auto op = static_cast<unsigned char>(take(1)[0]);
      if (op == '.') break;
      step(op);
    }
    return value_of(pop(), 0);
  }

 private:
  using Id = std::size_t;
  enum class Kind { leaf, list, tuple, dict, mark, global, type, buffer, array, failed };
  struct Node {
    Kind kind = Kind::leaf;
    Value leaf;
    std::vector<Id> items;
    std::string text;  // of a global: module.name
    ElementType type;
    BytesView buffer;
  };

  static Node node(Kind kind, std::vector<Id> items = {}) {
    Node made;
    made.kind = kind;
    made.items = std::move(items);
    return made;
  }
  static Node leaf(Value value) {
    Node made;
    made.leaf = std::move(value);
    return made;
  }

  BytesView take(std::size_t count) {
    if (count > data_.size()) broken();
    const auto view = data_.first(count);
    data_ = data_.subspan(count);
    return view;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text(std::size_t count) {
    const auto view = take(count);
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }
  Id push(Node node) {
    nodes_.push_back(std::move(node));
    stack_.push_back(nodes_.size() - 1);
    return stack_.back();
  }
  void push_value(Value value) { push(leaf(std::move(value))); }
  Id pop() {
    if (stack_.empty()) broken();
    const Id top = stack_.back();
    stack_.pop_back();
    return top;
  }
  Node& top() {
    if (stack_.empty()) broken();
    return nodes_[stack_.back()];
  }
  std::vector<Id> to_mark() {
    std::size_t at = stack_.size();
    while (at != 0 && nodes_[stack_[at - 1]].kind != Kind::mark) --at;
    if (at == 0) broken();
    std::vector<Id> items(stack_.begin() + static_cast<std::ptrdiff_t>(at), stack_.end());
    stack_.resize(at - 1);
    return items;
  }
  std::vector<Id> last(std::size_t count) {
    if (stack_.size() < count) broken();
    std::vector<Id> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  void append(const std::vector<Id>& items, Kind kind) {
    auto& into = top();
    if (into.kind != kind) broken();
    into.items.insert(into.items.end(), items.begin(), items.end());
  }
  void bytes(std::size_t count) {
    const auto view = take(count);
    push_value(Value::Bytes(view.begin(), view.end()));
  }
  void recall(std::size_t index) {
    if (index >= memo_.size()) broken();
    stack_.push_back(memo_[index]);
  }
  void long_integer(std::size_t count) {
    const auto view = take(count);
    if (count > 8) refuse("an integer does not fit 64 bits with sign");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value |= static_cast<std::uint64_t>(view[i]) << (8 * i);
    if (count != 0 && count < 8 && (static_cast<unsigned>(view[count - 1]) & 0x80U) != 0) value |= ~0ULL << (8 * count);
    push_value(std::bit_cast<std::int64_t>(value));
  }

  void step(unsigned char op);
  void reduce();
  void build();
  Value value_of(Id id, int depth);
  const std::string& text_at(Id id);
  ElementType type_of(const std::string& code);
  AnyArray array(ElementType type, std::vector<std::size_t> shape, BytesView bytes);
  std::vector<std::size_t> shape_of(Id id);

  BytesView data_;
  std::vector<BytesView> buffers_;
  std::size_t next_buffer_ = 0;
  std::shared_ptr<const void> keep_;
  std::deque<Node> nodes_;
  std::vector<Id> stack_;
  std::vector<Id> memo_;
};

void PickleReader::step(unsigned char op) {
  switch (op) {
    case 0x80:
      take(1);
      return;  // PROTO
    case 0x95:
      take(8);
      return;  // FRAME
    case 'N':
      return push_value(nullptr);
    case 0x88:
      return push_value(true);
    case 0x89:
      return push_value(false);
    case 'J':
      return push_value(std::int64_t{number<std::int32_t>()});
    case 'K':
      return push_value(std::int64_t{number<std::uint8_t>()});
    case 'M':
      return push_value(std::int64_t{number<std::uint16_t>()});
    case 0x8a:
      return long_integer(number<std::uint8_t>());
    case 0x8b:
      return long_integer(static_cast<std::size_t>(number<std::uint32_t>()));
    case 'G':
      return push_value(std::bit_cast<double>(__builtin_bswap64(number<std::uint64_t>())));
    case 0x8c:
      return push_value(text(number<std::uint8_t>()));
    case 'X':
      return push_value(text(number<std::uint32_t>()));
    case 0x8d:
      return push_value(text(number<std::uint64_t>()));
    case 'C':
      return bytes(number<std::uint8_t>());
    case 'B':
      return bytes(number<std::uint32_t>());
    case 0x8e:
    case 0x96:
      return bytes(number<std::uint64_t>());
    case ')':
      push(node(Kind::tuple));
      return;
    case 0x85:
    case 0x86:
    case 0x87:
      push(node(Kind::tuple, last(op - 0x84U)));
      return;
    case 't':
      push(node(Kind::tuple, to_mark()));
      return;
    case ']':
      push(node(Kind::list));
      return;
    case 'a':
      return append(last(1), Kind::list);
    case 'e':
      return append(to_mark(), Kind::list);
    case '}':
      push(node(Kind::dict));
      return;
    case 's':
      return append(last(2), Kind::dict);
    case 'u':
      return append(to_mark(), Kind::dict);
    case '(':
      push(node(Kind::mark));
      return;
    case '0':
      pop();
      return;
    case 0x94:  // MEMOIZE
      top();
      memo_.push_back(stack_.back());
      return;
    case 'h':
      return recall(number<std::uint8_t>());
    case 'j':
      return recall(number<std::uint32_t>());
    case 0x93: {  // STACK_GLOBAL
      const auto names = last(2);
      auto global = node(Kind::global);
      global.text = text_at(names[0]) + "." + text_at(names[1]);
      push(std::move(global));
      return;
    }
    case 0x97:  // NEXT_BUFFER
      if (next_buffer_ >= buffers_.size()) broken();
      push(node(Kind::buffer));
      top().buffer = buffers_[next_buffer_++];
      return;
    case 0x98:
      top();
      return;  // READONLY_BUFFER: all are
    case 'R':
      return reduce();
    case 'b':
      return build();
    case 0x81:
    case 0x92: {  // NEWOBJ, NEWOBJ_EX
      const auto items = last(op == 0x81 ? 2 : 3);
      refuse("an instance of the class " + nodes_[items[0]].text + " is no plain value");
    }
    case 0x8f:
      refuse("a set is no plain value: send a list of its elements");
    default:
      refuse(fmt::format("pickle's operation 0x{:02x} belongs to a value that is not plain", op));
  }
}

const std::string& PickleReader::text_at(Id id) {
  const auto* held = nodes_[id].leaf.get_if<std::string>();
  if (nodes_[id].kind != Kind::leaf || held == nullptr) broken();
  return *held;
}

ElementType PickleReader::type_of(const std::string& code) {
  if (code.size() < 2 || std::string("biufc").find(code[0]) == std::string::npos)
    refuse("an array of NumPy's type '" + code + "' holds no plain numbers");
  std::uint32_t bytes = 0;
  for (std::size_t i = 1; i < code.size(); ++i) {
    if (code[i] < '0' || code[i] > '9' || i > 2)
      refuse("an array of NumPy's type '" + code + "' holds no plain numbers");
    bytes = bytes * 10 + static_cast<std::uint32_t>(code[i] - '0');
  }
  return {code[0], bytes};
}

std::vector<std::size_t> PickleReader::shape_of(Id id) {
  const auto& node = nodes_[id];
  std::vector<std::size_t> shape;
  const auto extent = [&](Id at) {
    const auto* held = nodes_[at].leaf.get_if<std::int64_t>();
    if (held == nullptr || *held < 0) broken();
    shape.push_back(static_cast<std::size_t>(*held));
  };
  if (node.kind == Kind::leaf)
    extent(id);
  else if (node.kind == Kind::tuple)
    for (const Id at : node.items) extent(at);
  else
    broken();
  return shape;
}

AnyArray PickleReader::array(ElementType type, std::vector<std::size_t> shape, BytesView bytes) {
  AnyArray made{type, std::move(shape), nullptr};
  std::size_t count = 1;
  for (const auto extent : made.shape) {
    if (extent != 0 && count > bytes.size() / extent) broken();
    count *= extent;
  }
  if (type.bytes == 0 || count * type.bytes != bytes.size()) broken();
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % std::min<std::size_t>(type.bytes, 8) == 0) {
    made.data = std::shared_ptr<const std::byte>(keep_, bytes.data());
    return made;
  }
  auto copy = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
  made.data = std::shared_ptr<const std::byte>(copy, copy->data());
  return made;
}

void PickleReader::reduce() {
  const auto pair = last(2);
  const auto& callable = nodes_[pair[0]];
  const auto& args = nodes_[pair[1]];
  if (callable.kind != Kind::global || args.kind != Kind::tuple) broken();
  const auto& name = callable.text;
  const auto& items = args.items;
  const bool numpy = name.starts_with("numpy.");
  const auto is = [&](const char* wanted) { return numpy && name.ends_with(wanted); };
  if (name == "numpy.dtype" && !items.empty()) {
    auto type = node(Kind::type);
    type.type = type_of(text_at(items[0]));
    push(std::move(type));
    return;
  }
  if (is("._frombuffer") && items.size() == 4) {
    const auto& from = nodes_[items[0]];
    if (nodes_[items[1]].kind != Kind::type) broken();
    BytesView bytes = from.buffer;
    if (const auto* inside = from.leaf.get_if<Value::Bytes>()) bytes = *inside;
    auto shape = shape_of(items[2]);
    if (text_at(items[3]) != "C")
      refuse("an array in Fortran's order is not read in place: send numpy.ascontiguousarray() of it");
    return push_value(array(nodes_[items[1]].type, std::move(shape), bytes));
  }
  if (name == "trireme._cpp_values.array" && items.size() == 3) {  // as pickle_writer.cpp has it
    auto shape = shape_of(items[2]);
    return push_value(array(type_of(text_at(items[1])), std::move(shape), nodes_[items[0]].buffer));
  }
  if (is("._reconstruct")) {
    push(node(Kind::array));  // filled by build()
    return;
  }
  if (is(".scalar") && items.size() == 2 && nodes_[items[0]].kind == Kind::type) {
    const auto type = nodes_[items[0]].type;
    const auto* held = nodes_[items[1]].leaf.get_if<Value::Bytes>();
    if (held == nullptr || held->size() != type.bytes) broken();
    const auto as = [&]<class T>(T value) {
      std::memcpy(&value, held->data(), sizeof value);
      return value;
    };
    const auto whole = [&]() -> std::optional<std::int64_t> {
      const bool with_sign = type.kind == 'i';
      switch (type.bytes) {
        case 1:
          return with_sign ? as(std::int8_t{}) : as(std::uint8_t{});
        case 2:
          return with_sign ? as(std::int16_t{}) : as(std::uint16_t{});
        case 4:
          return with_sign ? std::int64_t{as(std::int32_t{})} : std::int64_t{as(std::uint32_t{})};
        case 8:
          if (!with_sign && as(std::uint64_t{}) > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
          return as(std::int64_t{});
        default:
          return std::nullopt;
      }
    };
    if (type == ElementType{'f', 8}) return push_value(as(double{}));
    if (type == ElementType{'f', 4}) return push_value(static_cast<double>(as(float{})));
    if (type.kind == 'b') return push_value((*held)[0] != std::byte{0});
    if (type.kind == 'i' || type.kind == 'u')
      if (const auto value = whole()) return push_value(*value);
    refuse("a NumPy scalar of type " + type.text() + " is no plain number");
  }
  if (name == "trireme._object_ref.load_ref")
    refuse(
        "a reference inside another argument stays a reference: give it as an argument of its own, so that its value "
        "is passed");
  refuse("an instance of the class or result of " + name + " is no plain value");
}

void PickleReader::build() {
  const Id state_id = pop();
  const auto& state = nodes_[state_id];
  auto& object = top();
  if (object.kind == Kind::type) {
    if (state.kind != Kind::tuple || state.items.size() < 2) broken();
    const auto* order = nodes_[state.items[1]].leaf.get_if<std::string>();
    if (order != nullptr && *order == ">") refuse("an array in the other byte order is not read in place");
    return;
  }
  if (object.kind == Kind::array && state.kind == Kind::tuple && state.items.size() == 5) {
    const auto& type = nodes_[state.items[2]];
    const auto* inside = nodes_[state.items[4]].leaf.get_if<Value::Bytes>();
    const auto* fortran = nodes_[state.items[3]].leaf.get_if<bool>();
    if (type.kind != Kind::type || fortran == nullptr) broken();
    if (inside == nullptr) refuse("an array of Python objects holds no plain numbers");
    if (*fortran) refuse("an array in Fortran's order is not read in place: send numpy.ascontiguousarray() of it");
    auto copy = std::make_shared<Value::Bytes>(*inside);
    auto made = array(type.type, shape_of(state.items[1]), *copy);
    made.data = std::shared_ptr<const std::byte>(copy, copy->data());
    object = leaf(std::move(made));
    return;
  }
  refuse("an instance with a state of its own is no plain value");
}

Value PickleReader::value_of(Id id, int depth) {
  if (depth > kDepthMax) refuse("the value is nested more than 100 deep, or contains itself");
  const auto& node = nodes_[id];
  switch (node.kind) {
    case Kind::leaf:
      return node.leaf;
    case Kind::list:
    case Kind::tuple: {
      Value::List items;
      items.reserve(node.items.size());
      for (const Id item : node.items) items.push_back(value_of(item, depth + 1));
      if (node.kind == Kind::list) return items;
      return Value::Tuple{std::move(items)};
    }
    case Kind::dict: {
      if (node.items.size() % 2 != 0) broken();
      Value::Dict dict;
      for (std::size_t i = 0; i < node.items.size(); i += 2)
        dict.emplace_back(value_of(node.items[i], depth + 1), value_of(node.items[i + 1], depth + 1));
      return dict;
    }
    case Kind::buffer:
      return Value::Bytes(node.buffer.begin(), node.buffer.end());
    case Kind::global:
      refuse("the class or function " + node.text + " is no plain value");
    case Kind::type:
      refuse("NumPy's type " + node.type.text() + " is no plain value");
    default:
      broken();
  }
}

}  // namespace

Value read_value(BytesView blob, const std::shared_ptr<const void>& keep) {
  const auto layout = unpack(blob);
  if (!layout) broken();
  if (layout->data_size == 0) return {};
  std::vector<BytesView> buffers;
  for (const auto& [at, size] : layout->buffers) buffers.push_back(blob.subspan(at, size));
  return PickleReader(blob.subspan(layout->data, layout->data_size), std::move(buffers), keep).read();
}

}  // namespace trireme::python::cross
