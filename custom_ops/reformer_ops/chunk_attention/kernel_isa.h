// Between the part of ChunkAttention that is compiled once and the one compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chunk_attention/kernel.h"

namespace reformer {

// The sequence, cut into blocks of neighbouring chunks of one head.
struct ChunkBlocks {
  const ChunkAttentionArguments* arguments;
  std::int64_t chunk_length, num_chunks_before, num_chunks_after;
  std::int64_t chunks_per_block, blocks_per_head;
};

#define REFORMER_DECLARE(isa)                                              \
  namespace isa {                                                          \
  void chunk_attention_block(const ChunkBlocks& blocks, std::size_t task); \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
