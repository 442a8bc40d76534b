// LayerNormLinear on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// Tensors are of dtype.
struct LayerNormLinearArguments {
  const void* input;                    // [rows, hidden]
  const void *norm_weight, *norm_bias;  // [hidden]
  const void* weight;                   // [columns / 16, hidden, 16]
  void* output;                         // [rows, columns]
  std::int64_t rows, hidden, columns;
  float epsilon;
  DType dtype;
};

// Results do not depend on the number of threads.
void layer_norm_linear(const LayerNormLinearArguments& arguments, const Parallel& parallel);

}  // namespace reformer
