// Between the part of SortedChunkAttention that is compiled once and the one compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sorted_chunk_attention/kernel.h"

namespace reformer {

// One round of hashing, cut into blocks of neighbouring chunks of one head.
struct SortedRound {
  const SortedChunkAttentionArguments* arguments;
  const std::int32_t* order;  // [batch, heads, num_hashes, length] positions sorted by bucket
  float* tops;                // [batch, heads, length] largest logsumexp of the rounds so far
  float* sums;                // [batch, heads, length] sum of exp(logsumexp - top) so far
  float* accumulator;         // [batch, length, heads, head_dim] where fp16 rounds are summed
  std::int64_t round;
  std::int64_t chunk_length, num_chunks_before, num_chunks_after;
  std::int64_t chunks_per_block, blocks_per_head;
};

#define REFORMER_DECLARE(isa)                                          \
  namespace isa {                                                      \
  void sorted_chunk_block(const SortedRound& round, std::size_t task); \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
