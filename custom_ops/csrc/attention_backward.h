// The gradients of softmax attention among chunks: one kernel for both attention operators.
// docs/ops.md has the formulas.
#pragma once

#include "attention_arguments.h"
#include "parallel.h"

namespace reformer {

// Computes the gradients. The sizes must come from apply_chunking. `order` is used, `buckets` is
// not.
void attention_backward(const AttentionBackwardArguments& arguments, const Parallel& parallel);

}  // namespace reformer
