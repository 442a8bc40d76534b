// Numbers of a tensor, of whatever type.
#pragma once

#include <cstddef>

#include "reformer/tensor.h"

namespace reformer {

// A floating-point number of the tensor; NaN if it holds no such numbers.
double number_at(const Tensor& tensor, std::size_t index);

}  // namespace reformer
