// Dropout of a matrix on the CPU, for training.
#pragma once

#include <cstdint>

#include "dropout.h"
#include "parallel.h"

namespace reformer {

// Sets `output` to `input`, both [rows, columns], with elements set to 0 and the rest scaled up.
void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input,
          float* output, const Parallel& parallel);

}  // namespace reformer
