#include "trireme/ml/types.hpp"

namespace trireme::ml {

std::size_t bytes_of(DType type) {
  constexpr std::size_t kBytes[kDTypes] = {2, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
  return kBytes[static_cast<unsigned>(type)];
}

std::string_view to_string(DType type) {
  constexpr std::string_view kNames[kDTypes] = {"float16", "bfloat16", "float32", "float64", "int8",   "int16",
                                                "int32",   "int64",    "uint8",   "uint16",  "uint32", "uint64"};
  return kNames[static_cast<unsigned>(type)];
}

std::string_view to_string(ReduceOp op) {
  constexpr std::string_view kNames[kReduceOps] = {"sum", "product", "min", "max", "mean"};
  return kNames[static_cast<unsigned>(op)];
}

}  // namespace trireme::ml
