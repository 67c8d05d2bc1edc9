#include "python/native/bind_plain.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <utility>

#include "python/native/pickle_codes.hpp"

namespace trireme::python::bind {

namespace {

/// Longer text and bytes are the pickle module's.
constexpr Py_ssize_t kTextMax = 255;
constexpr std::size_t kItemsMax = 64;

void add(Bytes& out, unsigned char byte) { out.push_back(static_cast<std::byte>(byte)); }
void add(Bytes& out, const void* from, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  out.insert(out.end(), bytes, bytes + size);
}
void add_integer(Bytes& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) add(out, static_cast<unsigned char>(value >> (8 * i)));
}

bool add_integer(Bytes& out, PyObject* value) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow != 0 || number > INT32_MAX || number < INT32_MIN) return false;
  const auto bits = static_cast<std::uint64_t>(number);
  if (number >= 0 && number < 256) {
    add(out, kInt1);
    add_integer(out, bits, 1);
  } else if (number >= 0 && number < 65536) {
    add(out, kInt2);
    add_integer(out, bits, 2);
  } else {
    add(out, kInt4);
    add_integer(out, bits, 4);
  }
  return true;
}

bool add_atom(PyObject* value, Bytes& out) {
  const auto* type = Py_TYPE(value);
  if (value == Py_None) return add(out, kNone), true;
  if (value == Py_True) return add(out, kTrue), true;
  if (value == Py_False) return add(out, kFalse), true;
  if (type == &PyLong_Type) return add_integer(out, value);
  if (type == &PyFloat_Type) {
    const auto bits = std::bit_cast<std::uint64_t>(PyFloat_AS_DOUBLE(value));
    add(out, kFloat);
    for (int i = 7; i >= 0; --i) add(out, static_cast<unsigned char>(bits >> (8 * i)));
    return true;
  }
  if (type == &PyBytes_Type) {
    const auto size = PyBytes_GET_SIZE(value);
    if (size > kTextMax) return false;
    add(out, kBytes1);
    add(out, static_cast<unsigned char>(size));
    add(out, PyBytes_AS_STRING(value), static_cast<std::size_t>(size));
    return true;
  }
  if (type == &PyUnicode_Type) {
    // What it keeps of its UTF-8 form stays small, and text that has none is told by the pickle module.
    if (PyUnicode_GET_LENGTH(value) > kTextMax) return false;
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) PyErr_Clear();
    if (text == nullptr || size > kTextMax) return false;
    add(out, kText1);
    add(out, static_cast<unsigned char>(size));
    add(out, text, static_cast<std::size_t>(size));
    return true;
  }
  return false;
}

/// With None at `positions`, which are in order.
bool add_tuple(std::span<PyObject* const> items, std::span<const std::uint32_t> positions, Bytes& out) {
  if (items.size() >= kItemsMax) return false;
  if (items.size() > 3) add(out, kMark);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!positions.empty() && positions.front() == i) {
      positions = positions.subspan(1);
      add(out, kNone);
    } else if (!add_atom(items[i], out)) {
      return false;
    }
  }
  constexpr unsigned char kEnds[] = {kTuple0, kTuple1, kTuple2, kTuple3};
  add(out, items.size() > 3 ? static_cast<unsigned char>(kTuple) : kEnds[items.size()]);
  return true;
}

void begin(Bytes& out) {
  add(out, kProto);
  add(out, 5);
}

/// Reads the opcodes; what it makes is on the stack, counted.
class Loader {
 public:
  explicit Loader(BytesView pickle)
      : at_(reinterpret_cast<const unsigned char*>(pickle.data())), end_(at_ + pickle.size()) {}
  ~Loader() {
    for (std::size_t i = 0; i < depth_; ++i) Py_DECREF(stack_[i]);
  }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  PyObject* load() {
    if (!has(2) || at_[0] != kProto || at_[1] < 4 || at_[1] > 5) return nullptr;
    at_ += 2;
    while (has(1)) {
      const auto op = *at_++;
      if (op == kStop) return depth_ == 1 && marked_ == 0 && at_ == end_ ? stack_[--depth_] : nullptr;
      if (!step(op)) break;
    }
    PyErr_Clear();  // the pickle module says it
    return nullptr;
  }

 private:
  bool has(std::size_t bytes) const { return static_cast<std::size_t>(end_ - at_) >= bytes; }
  bool push(PyObject* made) {
    if (made == nullptr) return false;
    if (depth_ == stack_.size()) return Py_DECREF(made), false;
    stack_[depth_++] = made;
    return true;
  }
  std::uint32_t integer(int bytes) {
    std::uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= static_cast<std::uint32_t>(at_[i]) << (8 * i);
    at_ += bytes;
    return value;
  }
  /// Where the part of the stack begins that is not below a mark.
  std::size_t floor() const { return marked_ == 0 ? 0 : marks_[marked_ - 1]; }
  bool append(std::size_t count) {
    if (depth_ < floor() + count + 1 || !PyList_CheckExact(stack_[depth_ - count - 1])) return false;
    auto* list = stack_[depth_ - count - 1];
    for (std::size_t i = depth_ - count; i < depth_; ++i) {
      if (PyList_Append(list, stack_[i]) != 0) return false;
    }
    for (; count != 0; --count) Py_DECREF(stack_[--depth_]);
    return true;
  }
  bool tuple(std::size_t count) {
    if (depth_ < floor() + count) return false;
    auto* made = PyTuple_New(static_cast<Py_ssize_t>(count));
    if (made == nullptr) return false;
    depth_ -= count;
    for (std::size_t i = 0; i < count; ++i) PyTuple_SET_ITEM(made, static_cast<Py_ssize_t>(i), stack_[depth_ + i]);
    return push(made);
  }
  bool step(unsigned char op) {
    switch (op) {
      case kFrame:
        if (!has(8)) return false;
        at_ += 8;
        return true;
      case kMemoize:  // nothing here refers back
        return depth_ != 0;
      case kNone:
        return push(Py_NewRef(Py_None));
      case kTrue:
        return push(Py_NewRef(Py_True));
      case kFalse:
        return push(Py_NewRef(Py_False));
      case kInt1:
        return has(1) && push(PyLong_FromLong(static_cast<long>(integer(1))));
      case kInt2:
        return has(2) && push(PyLong_FromLong(static_cast<long>(integer(2))));
      case kInt4:
        return has(4) && push(PyLong_FromLong(static_cast<std::int32_t>(integer(4))));
      case kFloat: {
        if (!has(8)) return false;
        std::uint64_t bits = 0;
        for (int i = 0; i < 8; ++i) bits = bits << 8U | *at_++;
        return push(PyFloat_FromDouble(std::bit_cast<double>(bits)));
      }
      case kBytes1:
      case kText1: {
        if (!has(1) || !has(std::size_t{1} + *at_)) return false;
        const auto size = *at_++;
        const auto* text = reinterpret_cast<const char*>(at_);
        at_ += size;
        return push(op == kBytes1 ? PyBytes_FromStringAndSize(text, size)
                                  : PyUnicode_DecodeUTF8(text, size, "surrogatepass"));
      }
      case kMark:
        if (marked_ == marks_.size()) return false;
        marks_[marked_++] = depth_;
        return true;
      case kTuple:
      case kAppends: {
        if (marked_ == 0) return false;
        const auto count = depth_ - marks_[--marked_];
        return op == kTuple ? tuple(count) : append(count);
      }
      case kList0:
        return push(PyList_New(0));
      case kAppend:
        return append(1);
      case kDict0:
        return push(PyDict_New());
      case kTuple0:
        return tuple(0);
      case kTuple1:
        return tuple(1);
      case kTuple2:
        return tuple(2);
      case kTuple3:
        return tuple(3);
      default:
        return false;
    }
  }

  const unsigned char* at_;
  const unsigned char* end_;
  std::array<PyObject*, kItemsMax> stack_;
  std::size_t depth_ = 0;
  std::array<std::size_t, 4> marks_;
  std::size_t marked_ = 0;
};

bool is_atom(PyObject* value) {
  const auto* type = Py_TYPE(value);
  return type == &PyLong_Type || type == &PyUnicode_Type || type == &PyFloat_Type || type == &PyBytes_Type ||
         value == Py_None || type == &PyBool_Type || type == &PyComplex_Type;
}

}  // namespace

bool dump_atom(PyObject* value, Bytes& out) {
  const auto before = out.size();
  begin(out);
  if (!add_atom(value, out)) return out.resize(before), false;
  add(out, kStop);
  return true;
}

bool dump_tuple(std::span<PyObject* const> items, Bytes& out) {
  const auto before = out.size();
  begin(out);
  if (!add_tuple(items, {}, out)) return out.resize(before), false;
  add(out, kStop);
  return true;
}

bool dump_call(std::span<PyObject* const> items, std::span<const std::uint32_t> positions, Bytes& out) {
  const auto before = out.size();
  begin(out);
  add(out, kList0);
  add(out, kMark);
  if (!add_tuple(items, positions, out)) return out.resize(before), false;
  add(out, kDict0);
  add(out, kList0);
  add(out, kMark);
  for (const auto position : positions) {
    add(out, kInt4);
    add_integer(out, position, 4);
  }
  add(out, kAppends);
  add(out, kAppends);
  add(out, kStop);
  return true;
}

PyObject* load_plain(BytesView pickle) { return Loader(pickle).load(); }

bool is_plain(PyObject* value) {
  if (is_atom(value)) return true;
  const auto* type = Py_TYPE(value);
  if (type == &PyTuple_Type || type == &PyList_Type) {
    const auto size = PySequence_Fast_GET_SIZE(value);
    auto** items = PySequence_Fast_ITEMS(value);
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (!is_atom(items[i])) return false;
    }
    return true;
  }
  if (type == &PyDict_Type) {
    Py_ssize_t at = 0;
    PyObject *key = nullptr, *each = nullptr;
    while (PyDict_Next(value, &at, &key, &each) != 0) {
      if (!is_atom(key) || !is_atom(each)) return false;
    }
    return true;
  }
  return false;
}

}  // namespace trireme::python::bind
