// Between the part of the kernel that is compiled once and the one compiled per ISA.
#pragma once

#include "training/linear/kernel.h"

namespace reformer {

#define REFORMER_DECLARE(isa)                                                                      \
  namespace isa {                                                                                  \
  void linear(const LinearSizes& sizes, const float* input, const float* weight, float* output,    \
              const Parallel& parallel);                                                           \
  void linear_input_gradient(const LinearSizes& sizes, const float* gradient, const float* weight, \
                             float* input_gradient, const Parallel& parallel);                     \
  void linear_weight_gradient(const LinearSizes& sizes, const float* gradient, const float* input, \
                              float* weight_gradient, const Parallel& parallel);                   \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
