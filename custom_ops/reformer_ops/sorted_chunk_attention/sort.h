// The order of positions that SortedChunkAttention splits into chunks.
#pragma once

#include <cstdint>
#include <memory>

#include "parallel.h"

namespace reformer {

// [lines, rounds, length] positions, stably sorted by bucket in each round; not sorted if `buckets`
// is null. Throws Error that names `op`, for buckets outside 0..num_buckets.
std::unique_ptr<std::int32_t[]> sorted_positions(const char* op, const std::int32_t* buckets,
                                                 std::int64_t lines, std::int64_t rounds,
                                                 std::int64_t length, std::int64_t num_buckets,
                                                 const Parallel& parallel);

}  // namespace reformer
