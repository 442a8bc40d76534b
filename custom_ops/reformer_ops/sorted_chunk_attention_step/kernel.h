// SortedChunkAttentionStep on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

// `present` may be `past`: then nothing is copied, and only the new token is written.
struct SortedStepArguments {
  const void *query_key, *value;      // [batch, heads, head_dim] of dtype
  const std::int32_t* buckets;        // [batch, heads, num_hashes]
  const void *past_key, *past_value;  // [batch, capacity, heads, head_dim] of dtype
  const std::int32_t* past_buckets;   // [batch, heads, num_hashes, capacity]
  const std::int32_t* past_order;     // [batch, heads, num_hashes, blocks, block_length]
  const std::int32_t* past_starts;    // [batch, heads, num_hashes, blocks]
  const std::int32_t* past_length;    // [batch]
  const std::uint8_t* attend_all;     // [batch]
  void* output;                       // [batch, heads, head_dim] of dtype
  void *present_key, *present_value;  // as their pasts
  std::int32_t *present_buckets, *present_order, *present_starts;
  std::int64_t batch, heads, head_dim, num_hashes, capacity, blocks, block_length;
  std::int64_t chunk_length, num_chunks_before;
  DType dtype;
};

// Throws Error if the cache is full, if it has too few blocks, if a length is negative, if an order
// or a start is out of range, or if attend_all is set for more than one chunk.
void sorted_chunk_attention_step(const SortedStepArguments& arguments, const Parallel& parallel);

}  // namespace reformer
