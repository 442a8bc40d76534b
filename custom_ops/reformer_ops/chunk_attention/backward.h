// The gradients of ChunkAttention on the CPU.
#pragma once

#include "attention_backward.h"

namespace reformer {

// Takes the attributes as ChunkAttention does, and no order. Throws Error for a length that is
// neither at most chunk_length nor a multiple of it.
void chunk_attention_backward(const AttentionBackwardArguments& arguments,
                              const Parallel& parallel);

}  // namespace reformer
