#pragma once

#include <cstddef>

#include "trireme/ml/types.hpp"

namespace trireme::ml {

/// out[i] = in[0][i] op in[1][i] op ... in this order, for `count` elements; with `mean_of` > 0 divided by it before it
/// is rounded to the type. `out` may be one of the inputs. float16 and bfloat16 are combined in float32 and rounded
/// once.
///
/// The same bits on every machine and for every cut of the range; vectorised for the machine that it runs on.
/// Threading: any.
void fold(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
          unsigned mean_of = 0);

inline void fold2(DType type, ReduceOp op, void* out, const void* a, const void* b, std::size_t count,
                  unsigned mean_of = 0) {
  const void* both[2] = {a, b};
  fold(type, op, out, both, 2, count, mean_of);
}

/// data[i] /= by, for what was added up before.
inline void divide(DType type, void* data, std::size_t count, unsigned by) {
  const void* one[1] = {data};
  fold(type, ReduceOp::sum, data, one, 1, count, by);
}

}  // namespace trireme::ml
