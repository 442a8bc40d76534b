// Between the part of LshBucket that is compiled once and the one compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lsh_bucket/kernel.h"

namespace reformer {

// The columns of one factor in one round: one argmax.
struct HashSegment {
  std::int64_t source;  // first column in the rotations as given
  std::int64_t column;  // first column within its group, a multiple of kPackedColumns
  std::int64_t half;    // half the factor: how many columns
  std::int64_t round;
  std::int32_t scale;  // what the factor's hash counts in the bucket
};

// Segments whose columns are multiplied together, so that narrow ones fill a register tile too.
struct HashGroup {
  std::int64_t start;                      // of its matrix in the packed rotations of a head
  std::int64_t width;                      // columns of that matrix, [head_dim][width]
  std::size_t first_segment, end_segment;  // which segments
};

constexpr std::int64_t kPackedColumns = 16;  // the widest vector: one packing serves every ISA
constexpr std::int64_t kGroupColumns = 64;   // the widest panel: groups end once they have as many

// Blocks of positions of one head, to be hashed with packed rotations.
struct HashBlocks {
  const LshBucketArguments* arguments;
  const float* packed;          // [heads][head_size], each the groups' matrices
  const HashSegment* segments;  // [num_hashes, num_factors]
  const HashGroup* groups;
  std::size_t num_groups;
  std::int64_t head_size;
  std::int64_t widest;  // group
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
