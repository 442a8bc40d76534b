// The gradients of softmax attention among chunks: one kernel for both attention operators.
// docs/ops.md has the formulas.
#pragma once

#include <cstdint>

#include "dropout.h"
#include "parallel.h"

namespace reformer {

// With shared QK, `key` is `query` and `key_gradient` is `query_gradient`. All floats are fp32.
struct AttentionBackwardArguments {
  const float *query, *key, *value;      // [batch, length, heads, head_dim]
  const float *output, *gradient;        // the forward's output, and the gradient for it
  const float* lse;                      // [batch, heads, length] of all scores of a query
  const std::uint8_t* mask;              // [batch, length], 0 for padding
  const std::int32_t* order;             // [batch, heads, rounds, length] positions along the ring
                                         // of chunks; null where they come as they are
  float *query_gradient, *key_gradient;  // [batch, length, heads, head_dim]
  float* value_gradient;
  std::int64_t batch, length, heads, head_dim, rounds;
  std::int64_t chunk_length, num_chunks_before, num_chunks_after;
  bool shared, causal;
  Dropout dropout;  // of the probabilities, as in the forward pass
};

// Takes a chunking that check_chunking has given.
void attention_backward(const AttentionBackwardArguments& arguments, const Parallel& parallel);

}  // namespace reformer
