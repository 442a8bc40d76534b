// LshBucket on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common.h"
#include "parallel.h"

namespace reformer {

struct LshBucketArguments {
  const void* query;         // [batch, length, heads, head_dim] of dtype
  const float* rotations;    // [heads, head_dim, num_hashes, sum(factors) / 2]
  const std::uint8_t* mask;  // [batch, length], 0 for padding
  std::int32_t* buckets;     // [batch, heads, num_hashes, length]
  DType dtype;
  std::int64_t batch, length, heads, head_dim, num_hashes;
  const std::int64_t* factors;
  std::size_t num_factors;
};

// How many buckets there are, not counting the one for padding, whose number this is. Throws Error
// for factors that are none, odd, or too large for int32 to number all buckets.
std::int64_t bucket_count(const std::int64_t* factors, std::size_t num_factors);

// Throws Error where bucket_count does.
void lsh_bucket(const LshBucketArguments& arguments, const Parallel& parallel);

}  // namespace reformer
