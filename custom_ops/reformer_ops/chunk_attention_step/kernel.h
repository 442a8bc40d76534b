// ChunkAttentionStep on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// `present` may be `past`: then nothing is copied, and the new token is written into its place.
struct ChunkStepArguments {
  const void *query, *key, *value;    // [batch, heads, head_dim] of dtype
  const void *past_key, *past_value;  // [batch, window, heads, head_dim] of dtype
  const std::int32_t* past_length;    // [batch]
  void* output;                       // [batch, heads, head_dim] of dtype
  void *present_key, *present_value;  // as past_key
  std::int64_t batch, heads, head_dim, window, chunk_length, num_chunks_before;
  DType dtype;
};

// Throws Error if the window is not that of the attributes, or a length is negative.
void chunk_attention_step(const ChunkStepArguments& arguments, const Parallel& parallel);

}  // namespace reformer
