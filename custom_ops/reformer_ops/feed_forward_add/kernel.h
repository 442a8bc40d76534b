// FeedForwardAdd on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "activation.h"
#include "common.h"
#include "parallel.h"

namespace reformer {

// Tensors without another type are of dtype, and so are the weights if they have no scales. With
// scales, they are uint8: as Int4Linear takes them if there are steps, else as Int8Linear does.
// `output` may be `residual`.
struct FeedForwardAddArguments {
  const void *residual, *input;            // [rows, hidden]
  const void *norm_weight, *norm_bias;     // [hidden]
  const void *up_weight, *up_bias;         // [feed_forward / 16, hidden, 16], [feed_forward]
  const void *down_weight, *down_bias;     // [hidden / 16, feed_forward, 16], [hidden]
  const float *up_scale, *down_scale;      // [feed_forward], [hidden]; null without scales
  const std::int8_t *up_step, *down_step;  // null without steps
  void* output;                            // [rows, hidden]
  std::int64_t rows, hidden, feed_forward;
  float epsilon;
  Activation activation;
  DType dtype;
};

// Results do not depend on the number of threads.
void feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel);

}  // namespace reformer
