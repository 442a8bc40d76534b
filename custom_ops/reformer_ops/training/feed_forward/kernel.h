// The feed-forward half of a reversible layer on the CPU, for training: norm, first linear layer,
// dropout, ReLU, second linear layer, dropout; for a block of rows at a time.
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
  Dropout dropout;  // rows 0 to `rows` - 1: first linear layer; then the second
  std::int64_t rows, hidden, feed_forward;
};

// `output` is the gradient of the output. The others receive the gradients of the arguments with
// the same name, and have their shapes.
struct FeedForwardGradients {
  const float* output;  // [rows, hidden]
  float* input;
  float *norm_weight, *norm_bias, *up_weight, *up_bias, *down_weight, *down_bias;
};

// Both throw Error if `hidden` or `feed_forward` is not a multiple of 16, the widest vector. Both
// set `output` [rows, hidden]; in the second it may be null.
void feed_forward(const FeedForwardArguments& arguments, float* output, const Parallel& parallel);
void feed_forward_backward(const FeedForwardArguments& arguments,
                           const FeedForwardGradients& gradients, float* output,
                           const Parallel& parallel);

}  // namespace reformer
