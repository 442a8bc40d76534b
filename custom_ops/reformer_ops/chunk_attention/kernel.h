// ChunkAttention on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "dropout.h"
#include "parallel.h"

namespace reformer {

struct ChunkAttentionArguments {
  const void* query;         // [batch, length, heads, head_dim] of dtype
  const void* key;           // the same
  const void* value;         // the same
  const std::uint8_t* mask;  // [batch, length], 0 for padding
  void* output;              // [batch, length, heads, head_dim] of dtype
  float* lse;                // [batch, heads, length] of each query's scores; null if not wanted
  DType dtype;
  std::int64_t batch, length, heads, head_dim;
  std::int64_t chunk_length, num_chunks_before, num_chunks_after;
  bool causal;
  Dropout dropout;  // of the probabilities, in training
};

// Throws Error for a length that is neither at most chunk_length nor a multiple of it.
void chunk_attention(const ChunkAttentionArguments& arguments, const Parallel& parallel);

}  // namespace reformer
