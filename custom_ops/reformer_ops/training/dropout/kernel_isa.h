// Between the part of the kernel that is compiled once and the one compiled per ISA.
#pragma once

#include "training/dropout/kernel.h"

namespace reformer {

#define REFORMER_DECLARE(isa)                                                                    \
  namespace isa {                                                                                \
  void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input, \
            float* output, const Parallel& parallel);                                            \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
