#include "ml/collective/fold.hpp"

#include "ml/collective/fold_kernels.hpp"

namespace trireme::ml {

#if defined(TRIREME_FOLD_AVX2)
void fold_avx2(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
               unsigned mean_of);
#endif

void fold(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
          unsigned mean_of) {
#if defined(TRIREME_FOLD_AVX2)
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  if (avx2) return fold_avx2(type, op, out, in, inputs, count, mean_of);
#endif
  fold_any(type, op, out, in, inputs, count, mean_of);
}

}  // namespace trireme::ml
