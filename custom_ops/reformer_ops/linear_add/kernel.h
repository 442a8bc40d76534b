// LinearAdd on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// Tensors are of dtype. `output` may be `residual`.
struct LinearAddArguments {
  const void* residual;  // [rows, hidden]
  const void* input;     // [rows, depth]
  const void* weight;    // [hidden / 16, depth, 16]
  void* output;          // [rows, hidden]
  std::int64_t rows, depth, hidden;
  DType dtype;
};

// Results do not depend on the number of threads.
void linear_add(const LinearAddArguments& arguments, const Parallel& parallel);

}  // namespace reformer
