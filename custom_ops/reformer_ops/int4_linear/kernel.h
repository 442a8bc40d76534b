// Int4Linear on the CPU. docs/ops.md defines the numbers.
#pragma once

#include <cstdint>

#include "int8_linear/kernel.h"

namespace reformer {

struct Int4LinearArguments : Int8LinearArguments {
  // The weight is [columns / 16, depth / 8, 16, 4].
  const std::int8_t* step;  // [columns / 16, depth / 32, 16]
};

// Results do not depend on the number of threads.
void int4_linear(const Int4LinearArguments& arguments, const Parallel& parallel);

}  // namespace reformer
