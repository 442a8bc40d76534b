// Reads numbers of a tensor of any type.
#pragma once

#include <cstddef>

#include "reformer/tensor.h"

namespace reformer {

// The number at `index` in memory order; NaN if the tensor holds booleans.
double number_at(const Tensor& tensor, std::size_t index);

}  // namespace reformer
