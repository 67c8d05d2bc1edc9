// Compiled with -mavx2 -mf16c; called only where the processor has both.
#include "ml/collective/fold_kernels.hpp"

namespace trireme::ml {

void fold_avx2(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
               unsigned mean_of);
void fold_avx2(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
               unsigned mean_of) {
  fold_any(type, op, out, in, inputs, count, mean_of);
}

}  // namespace trireme::ml
