// Checks of the axes of weights in panels, for all bindings.
#pragma once

#include <cstdint>
#include <string>

#include "operands.h"

namespace reformer {

// The number of columns of a weight [panels, depth, 16]. Throws Error for panels of another width.
inline std::int64_t columns_of(Axes& axes, const char* op, const char* panels) {
  constexpr std::int64_t kColumns = 16;
  if (axes["panel"] != kColumns)
    throw Error(std::string(op) + " takes weights in panels of 16 columns; got panels of " +
                std::to_string(axes["panel"]));
  return axes[panels] * kColumns;
}

// Throws Error if the number of columns of a weight is not the size of the axis.
inline void check_columns(Axes& axes, const char* op, const char* panels, const char* axis) {
  const std::int64_t columns = columns_of(axes, op, panels);
  if (columns != axes[axis])
    throw Error(std::string(op) + " takes a weight of " + std::to_string(axes[axis]) +
                " columns for " + axis + "; got " + std::to_string(axes[panels]) + " panels of 16");
}

// Throws Error unless a weight of 8 bits has as many lines as the axis, 4 of them together.
inline void check_quads(Axes& axes, const char* op, const char* quads, const char* axis) {
  constexpr std::int64_t kQuad = 4;
  if (axes["quad"] != kQuad || axes[quads] * kQuad != axes[axis])
    throw Error(std::string(op) + " takes a weight of " + std::to_string(axes[axis]) +
                " lines for " + axis + "; got " + std::to_string(axes[quads]) + " times " +
                std::to_string(axes["quad"]));
}

// Throws Error unless a weight of 4 bits has as many lines as the axis, 8 of them together, with a
// step for each 32.
inline void check_octets(Axes& axes, const char* op, const char* octets, const char* steps,
                         const char* axis) {
  constexpr std::int64_t kBytes = 4, kOctet = 8, kBlock = 32;
  if (axes["quad"] != kBytes || axes[octets] * kOctet != axes[axis] ||
      axes[steps] * kBlock != axes[axis])
    throw Error(std::string(op) + " takes a weight of " + std::to_string(axes[axis]) +
                " lines for " + axis + ", with a step for each 32; got " +
                std::to_string(axes[octets]) + " times " + std::to_string(axes["quad"]) +
                " bytes and " + std::to_string(axes[steps]) + " steps");
}

}  // namespace reformer
