#include "python/collective/array.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>

namespace py = pybind11;

namespace trireme::python {
namespace {

using ml::DType;

/// What DLPack lays down (version 0.8): a tensor, and who frees it.
struct DLTensor {
  void* data;
  struct {
    std::int32_t type, id;
  } device;
  std::int32_t ndim;
  struct {
    std::uint8_t code, bits;
    std::uint16_t lanes;
  } dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: contiguous
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
enum : std::int32_t { kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3, kDLCUDAManaged = 13 };

bool on_gpu(std::int32_t type) { return type == kDLCUDA || type == kDLCUDAManaged; }

std::string type_name(const py::handle& object) { return py::str(py::type::of(object).attr("__name__")); }

DType integer(bool is_signed, std::size_t bytes) {
  const int log = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
  return static_cast<DType>(static_cast<int>(is_signed ? DType::i8 : DType::u8) + log);
}

[[noreturn]] void not_contiguous(const char* what) {
  throw py::value_error(
      fmt::format("{} is not contiguous; pass a contiguous copy (numpy.ascontiguousarray, "
                  "torch.Tensor.contiguous) and copy the result back",
                  what));
}

class FromBuffer final : public Array {
 public:
  FromBuffer(const py::object& object, bool writes, const char* what) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) throw py::error_already_set();
    held_ = true;
    if (writes && view_.readonly != 0)
      throw py::value_error(fmt::format("{} is read-only (a value from get()? then pass a copy)", what));
    if (PyBuffer_IsContiguous(&view_, 'A') == 0) not_contiguous(what);
    const std::string format = view_.format != nullptr ? view_.format : "B";
    const auto item = static_cast<std::size_t>(view_.itemsize);
    const std::size_t at = !format.empty() && std::string("@=<").find(format[0]) != std::string::npos ? 1 : 0;
    const char code = format.size() == at + 1 ? format[at] : '\0';
    if (code == 'e' || code == 'f' || code == 'd') {
      type = code == 'e' ? DType::f16 : code == 'f' ? DType::f32 : DType::f64;
    } else if (code != '\0' && std::string("bhilqn").find(code) != std::string::npos) {
      type = integer(true, item);
    } else if (code != '\0' && std::string("BHILQNc").find(code) != std::string::npos) {
      type = integer(false, item);
    } else if (code == '?') {
      type = DType::u8;
      is_bool = true;
    } else {
      throw py::type_error(
          fmt::format("{} has elements of format '{}'; collectives take float16 to float64, integers and "
                      "bool",
                      what, format));
    }
    data = view_.buf;
    count = item != 0 ? static_cast<std::size_t>(view_.len) / item : 0;
  }
  ~FromBuffer() override {
    if (held_) PyBuffer_Release(&view_);
  }

 private:
  Py_buffer view_{};
  bool held_ = false;
};

class FromDlpack final : public Array {
 public:
  /// `device`: the GPU where it must lie, -1 for the host's memory. `stream`: what `__dlpack__` is given then.
  FromDlpack(py::object object, const char* what, int device, std::int64_t stream) {
    // A tensor that autograd follows is not exported; its memory is the same without that.
    if (py::hasattr(object, "detach")) object = object.attr("detach")();
    // Asked first: exporting from a device may wait for it.
    if (py::hasattr(object, "__dlpack_device__")) {
      const auto where = py::tuple(object.attr("__dlpack_device__")());
      expect(what, device, py::int_(where[0]).cast<std::int32_t>(), py::int_(where[1]).cast<std::int32_t>());
    }
    capsule_ = device < 0 ? object.attr("__dlpack__")() : object.attr("__dlpack__")(py::arg("stream") = stream);
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule_.ptr(), "dltensor"));
    if (managed == nullptr) throw py::error_already_set();
    const DLTensor& tensor = managed->tensor;
    expect(what, device, tensor.device.type, tensor.device.id);
    std::size_t elements = 1;
    std::int64_t expected = 1;
    for (int d = tensor.ndim - 1; d >= 0; --d) {
      if (tensor.strides != nullptr && tensor.shape[d] > 1 && tensor.strides[d] != expected) not_contiguous(what);
      expected *= tensor.shape[d];
      elements *= static_cast<std::size_t>(tensor.shape[d]);
    }
    const auto found = type_of(tensor);
    if (!found || tensor.dtype.lanes != 1)
      throw py::type_error(fmt::format("{} has elements that collectives do not take (DLPack type {}, {} bits)", what,
                                       tensor.dtype.code, tensor.dtype.bits));
    type = *found;
    is_bool = tensor.dtype.code == 6;
    data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
    count = elements;
  }

 private:
  static void expect(const char* what, int device, std::int32_t type, std::int32_t id) {
    if (device < 0) {
      if (type == kDLCPU || type == kDLCUDAHost) return;
      if (on_gpu(type))
        throw py::type_error(
            fmt::format("{} lies on CUDA device {}, and this group reduces on the CPU; move it "
                        "(tensor.cpu()), or make the group with backend='nccl'",
                        what, id));
      throw py::type_error(
          fmt::format("{} lies on a device (DLPack device type {}); this group reduces on the CPU", what, type));
    }
    if (!on_gpu(type))
      throw py::type_error(
          fmt::format("{} does not lie on a GPU (DLPack device type {}), and this group is of backend "
                      "'nccl'; move it (tensor.cuda()), or make the group with backend='cpu'",
                      what, type));
    if (id != device)
      throw py::value_error(
          fmt::format("{} lies on CUDA device {}, this member of the group is on device {}; a member "
                      "has one device",
                      what, id, device));
  }
  static std::optional<DType> type_of(const DLTensor& tensor) {
    const unsigned bits = tensor.dtype.bits;
    if (bits != 8 && bits != 16 && bits != 32 && bits != 64) return std::nullopt;
    switch (tensor.dtype.code) {
      case 0:
        return integer(true, bits / 8);
      case 1:
        return integer(false, bits / 8);
      case 2:
        return bits == 16 ? DType::f16 : bits == 32 ? DType::f32 : DType::f64;
      case 4:
        return bits == 16 ? std::optional(DType::bf16) : std::nullopt;
      case 6:
        return bits == 8 ? std::optional(DType::u8) : std::nullopt;
      default:
        return std::nullopt;
    }
  }
  // The capsule's own destructor frees the tensor when nobody took it over, and nobody does.
  py::object capsule_;
};

}  // namespace

std::shared_ptr<Array> Array::of(const py::object& object, bool writes, const char* what) {
  if (PyObject_CheckBuffer(object.ptr()) != 0) return std::make_shared<FromBuffer>(object, writes, what);
  if (py::hasattr(object, "__dlpack__")) return std::make_shared<FromDlpack>(object, what, -1, -1);
  throw py::type_error(
      fmt::format("{} is a {}; pass a NumPy array, a torch tensor or anything with the buffer protocol or "
                  "__dlpack__",
                  what, type_name(object)));
}

std::shared_ptr<Array> Array::on_device(const py::object& object, const char* what, int device, std::int64_t stream) {
  if (py::hasattr(object, "__dlpack__")) return std::make_shared<FromDlpack>(object, what, device, stream);
  throw py::type_error(
      fmt::format("{} is a {}; a group of backend 'nccl' takes CUDA tensors of torch and anything else "
                  "with __dlpack__ on a GPU",
                  what, type_name(object)));
}

}  // namespace trireme::python
