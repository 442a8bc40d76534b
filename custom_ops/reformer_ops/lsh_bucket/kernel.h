// LshBucket on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

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

// The number of buckets. It is also the number of the extra bucket for padding. Throws Error if
// there are no factors, if one is odd or below 2, or if the product exceeds int32.
inline std::int64_t bucket_count(const std::int64_t* factors, std::size_t num_factors) {
  std::string given;
  for (std::size_t i = 0; i < num_factors; ++i)
    given += (i == 0 ? "" : ", ") + std::to_string(factors[i]);
  given = "; got [" + given + "]";
  std::int64_t count = 1;
  bool all_even = num_factors > 0, numbered = true;
  for (std::size_t i = 0; i < num_factors; ++i) {
    all_even &= factors[i] >= 2 && factors[i] % 2 == 0;
    numbered = numbered && !__builtin_mul_overflow(count, factors[i], &count) &&
               count <= std::numeric_limits<std::int32_t>::max();
  }
  if (!all_even) throw Error("lsh_bucket takes one or more factors, even and >= 2" + given);
  if (!numbered) throw Error("lsh_bucket takes factors whose product is below 2**31" + given);
  return count;
}

// Throws Error as bucket_count does.
void lsh_bucket(const LshBucketArguments& arguments, const Parallel& parallel);

}  // namespace reformer
