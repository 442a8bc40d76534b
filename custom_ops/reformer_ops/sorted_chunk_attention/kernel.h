// SortedChunkAttention on the CPU. docs/ops.md defines the numbers.
#pragma once

#include "attention_arguments.h"
#include "parallel.h"

namespace reformer {

// Both throw Error for a length that is neither at most chunk_length nor a multiple of it, and for
// buckets out of range. They sort the positions: `order` of the arguments is ignored.
void sorted_chunk_attention(const AttentionArguments& arguments, const Parallel& parallel);
void sorted_chunk_attention_backward(const AttentionBackwardArguments& arguments,
                                     const Parallel& parallel);

}  // namespace reformer
