// The gradients of softmax attention among chunks: one kernel for both attention operators.
// docs/ops.md has the formulas.
#pragma once

#include "attention_arguments.h"
#include "parallel.h"

namespace reformer {

// Sets the gradients. Takes sizes that check_chunking accepts, a chunk_length of at most `length`,
// and `order` instead of `buckets`.
void attention_backward(const AttentionBackwardArguments& arguments, const Parallel& parallel);

}  // namespace reformer
