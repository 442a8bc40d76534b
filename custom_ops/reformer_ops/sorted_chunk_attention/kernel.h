// SortedChunkAttention on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "dropout.h"
#include "parallel.h"

namespace reformer {

struct SortedChunkAttentionArguments {
  const void* query_key;        // [batch, length, heads, head_dim] of dtype
  const void* value;            // the same
  const std::int32_t* buckets;  // [batch, heads, num_hashes, length], 0..num_buckets
  const std::uint8_t* mask;     // [batch, length], 0 for padding
  void* output;                 // [batch, length, heads, head_dim] of dtype
  float* lse;  // [batch, heads, length] of each query's scores in all rounds; null if not wanted
  DType dtype;
  std::int64_t batch, length, heads, head_dim, num_hashes;
  std::int64_t num_buckets, chunk_length, num_chunks_before, num_chunks_after;
  bool causal;
  Dropout dropout;  // of the probabilities, in training
};

// Throws Error for a length that is neither at most chunk_length nor a multiple of it, and for
// buckets out of range.
void sorted_chunk_attention(const SortedChunkAttentionArguments& arguments,
                            const Parallel& parallel);

}  // namespace reformer
