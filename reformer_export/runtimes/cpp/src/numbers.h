// Reads numbers of a tensor of any floating-point type.
#pragma once

#include <cstddef>

#include "reformer/tensor.h"

namespace reformer {

// The number at `index` in memory order; NaN if the tensor holds no floating-point numbers.
double number_at(const Tensor& tensor, std::size_t index);

}  // namespace reformer
