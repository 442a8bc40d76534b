// The gradients of SortedChunkAttention on the CPU.
#pragma once

#include <cstdint>

#include "attention_backward.h"

namespace reformer {

// Takes attributes and `buckets`, [batch, heads, rounds, length], as SortedChunkAttention does, and
// no order. Throws Error for what SortedChunkAttention refuses.
void sorted_chunk_attention_backward(const AttentionBackwardArguments& arguments,
                                     const std::int32_t* buckets, std::int64_t num_buckets,
                                     const Parallel& parallel);

}  // namespace reformer
