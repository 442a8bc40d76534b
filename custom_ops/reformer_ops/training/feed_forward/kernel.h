// The feed-forward half of a reversible layer on the CPU, for training: norm, up, dropout, ReLU,
// down, dropout, a block of rows at a time.
#pragma once

#include <cstdint>

#include "dropout.h"
#include "parallel.h"

namespace reformer {

struct FeedForwardArguments {
  const float* input;                    // [rows, hidden]
  const float *norm_weight, *norm_bias;  // [hidden]
  const float *up_weight, *up_bias;      // [feed_forward, hidden], [feed_forward]
  const float *down_weight, *down_bias;  // [hidden, feed_forward], [hidden]
  float epsilon;
  Dropout dropout;  // of [2 * rows]: the rows of what goes up, then of what comes down
  std::int64_t rows, hidden, feed_forward;
};

// Where the gradients go, and `output`, the one they are of. All but `output` are shaped as the
// arguments of these names.
struct FeedForwardGradients {
  const float* output;  // [rows, hidden]
  float* input;
  float *norm_weight, *norm_bias, *up_weight, *up_bias, *down_weight, *down_bias;
};

// Both throw Error where `hidden` or `feed_forward` is no multiple of 16, the widest vector. Both
// set `output` [rows, hidden]; the second can do without (null).
void feed_forward(const FeedForwardArguments& arguments, float* output, const Parallel& parallel);
void feed_forward_backward(const FeedForwardArguments& arguments,
                           const FeedForwardGradients& gradients, float* output,
                           const Parallel& parallel);

}  // namespace reformer
