// Int8Linear on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// Tensors without another type are of dtype.
struct Int8LinearArguments {
  const void* input;           // [rows, depth]
  const std::uint8_t* weight;  // [columns / 16, depth / 4, 16, 4]
  const float* scale;          // [columns]
  const void* bias;            // [columns]
  void* output;                // [rows, columns]
  std::int64_t rows, depth, columns;
  DType dtype;
};

// Results do not depend on the number of threads.
void int8_linear(const Int8LinearArguments& arguments, const Parallel& parallel);

}  // namespace reformer
