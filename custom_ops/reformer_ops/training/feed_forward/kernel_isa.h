// Between the part of the kernel that is compiled once and the one compiled per ISA.
#pragma once

#include "training/feed_forward/kernel.h"

namespace reformer {

#define REFORMER_DECLARE(isa)                                                      \
  namespace isa {                                                                  \
  void feed_forward(const FeedForwardArguments& arguments, float* output,          \
                    const Parallel& parallel);                                     \
  void feed_forward_backward(const FeedForwardArguments& arguments,                \
                             const FeedForwardGradients& gradients, float* output, \
                             const Parallel& parallel);                            \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
