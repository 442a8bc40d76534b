// Dropout of vectors along the rows of a matrix.
#pragma once

#include "dropout.h"
#include "simd.h"

namespace reformer::REFORMER_ISA {

class VectorDropout {
 public:
  explicit VectorDropout(const Dropout& dropout) : dropout_(dropout) {}

  bool drops() const { return dropout_.drops(); }

  // `x` has kLanes elements of a row, from `column` on.
  REFORMER_INLINE Floats apply(Floats x, std::int64_t row, std::int64_t column) const {
    Bits columns;
    for (int lane = 0; lane < kLanes; ++lane) columns[lane] = lane;
    columns = columns + broadcast(static_cast<std::uint32_t>(column));
    const auto stays = dropout_.keeps(broadcast(dropout_.row_key(row)), columns);
    return stays ? x * dropout_.scale : Floats{};
  }

 private:
  Dropout dropout_;
};

}  // namespace reformer::REFORMER_ISA
