// Between the part of LshBucket that is compiled once and the one compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lsh_bucket/kernel.h"

namespace reformer {

// The columns of one factor in one round: one argmax.
struct HashSegment {
  std::int64_t source;  // first column in the rotations as given
  std::int64_t start;   // first column in the packed rotations, a multiple of kPackedColumns
  std::int64_t half;    // half the factor: how many columns
};

constexpr std::int64_t kPackedColumns = 16;  // the widest vector: one packing serves every ISA

// Blocks of positions of one head, to be hashed with packed rotations.
struct HashBlocks {
  const LshBucketArguments* arguments;
  const float* packed;          // [heads][segments][head_dim][half rounded up]
  const HashSegment* segments;  // [num_hashes, num_factors]
  std::int64_t columns;         // of all segments, packed
  std::int64_t widest;          // segment, packed
  std::int32_t padding_bucket;
  std::int64_t positions_per_block, blocks_per_head;
};

#define REFORMER_DECLARE(isa)                                  \
  namespace isa {                                              \
  void hash_block(const HashBlocks& blocks, std::size_t task); \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
