// FeedForwardAdd on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "activation.h"
#include "common.h"
#include "parallel.h"

namespace reformer {

// Tensors are of dtype. `output` may be `residual`.
struct FeedForwardAddArguments {
  const void *residual, *input;         // [rows, hidden]
  const void *norm_weight, *norm_bias;  // [hidden]
  const void *up_weight, *up_bias;      // [feed_forward / 16, hidden, 16], [feed_forward]
  const void *down_weight, *down_bias;  // [hidden / 16, feed_forward, 16], [hidden]
  void* output;                         // [rows, hidden]
  std::int64_t rows, hidden, feed_forward;
  float epsilon;
  Activation activation;
  DType dtype;
};

// Results do not depend on the number of threads.
void feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel);

}  // namespace reformer
