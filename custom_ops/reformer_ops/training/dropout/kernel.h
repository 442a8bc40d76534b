// Dropout of a matrix on the CPU, for training.
#pragma once

#include <cstdint>

#include "dropout.h"
#include "parallel.h"

namespace reformer {

// Sets `output` to `input` with some elements set to 0 and the rest scaled up; both are [rows,
// columns].
void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input,
          float* output, const Parallel& parallel);

}  // namespace reformer
