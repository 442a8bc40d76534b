// ChunkAttention on the CPU. docs/ops.md defines the results.
#pragma once

#include "attention_arguments.h"
#include "parallel.h"

namespace reformer {

// Both throw Error for a length that is neither at most chunk_length nor a multiple of it.
void chunk_attention(const AttentionArguments& arguments, const Parallel& parallel);
void chunk_attention_backward(const AttentionBackwardArguments& arguments,
                              const Parallel& parallel);

}  // namespace reformer
