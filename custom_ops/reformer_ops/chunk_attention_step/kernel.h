// ChunkAttentionStep on the CPU. docs/ops.md defines the results.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// `present` and `past` may be the same buffer: then only the new token is written.
struct ChunkStepArguments {
  const void *query, *key, *value;    // [batch, heads, head_dim] of dtype
  const void *past_key, *past_value;  // [batch, window, heads, head_dim] of dtype
  const std::int32_t* past_length;    // [batch]
  void* output;                       // [batch, heads, head_dim] of dtype
  void *present_key, *present_value;  // the same as past_key
  std::int64_t batch, heads, head_dim, window, chunk_length, num_chunks_before;
  DType dtype;
};

// Throws Error if the window does not match the attributes, or a length is negative.
void chunk_attention_step(const ChunkStepArguments& arguments, const Parallel& parallel);

}  // namespace reformer
