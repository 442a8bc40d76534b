#include "training/dropout/kernel.h"

#include <algorithm>

#include "isa.h"
#include "vector_dropout.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {

void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input,
          float* output, const Parallel& parallel) {
  constexpr std::int64_t kBlock = 64;
  const VectorDropout vectors(dropout);
  parallel_for(parallel, (rows + kBlock - 1) / kBlock, [&](std::size_t block) {
    const std::int64_t first = static_cast<std::int64_t>(block) * kBlock;
    for (std::int64_t row = first; row < std::min(first + kBlock, rows); ++row) {
      const float* from = input + row * columns;
      float* to = output + row * columns;
      std::int64_t column = 0;
      for (; column + kLanes <= columns; column += kLanes)
        store(to + column, vectors.apply(load(from + column), row, column));
      for (const std::uint32_t key = dropout.row_key(row); column < columns; ++column)
        to[column] = dropout.keeps(key, static_cast<std::uint32_t>(column))
                         ? from[column] * dropout.scale
                         : 0.0f;
    }
  });
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(drop)

void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input,
          float* output, const Parallel& parallel) {
  active_drop()(dropout, rows, columns, input, output, parallel);
}

}  // namespace reformer
#endif
