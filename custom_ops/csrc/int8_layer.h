// A linear layer whose rows are rounded to integers, for weights of 8 and of 4 bits.
#pragma once

#include <cstdint>

#include "int8_linear/kernel.h"
#include "int8_panels.h"
#include "linear_layers.h"

namespace reformer::REFORMER_ISA {

// Weight is Int8Panels<Number> or Int4Panels<Number>.
template <typename Stored, typename Number, typename Weight>
void run_int8_layer(const Int8LinearArguments& a, const Weight& weight, const Parallel& parallel) {
  Scratch& scratch = Scratch::of_this_call();
  scratch.reset(Scratch::bytes_of<float>(a.columns));
  const float* bias = widened<Stored>(a.bias, a.columns, scratch);
  run_linear<Int8Segments<Number>>(
      parallel, a.rows, a.depth, a.columns,
      [&](std::int64_t first, Range range, const Int8Segments<Number>& rows) {
        write_rows(static_cast<const Stored*>(a.input) + first * a.depth, range, rows);
      },
      [&](const Int8Segments<Number>& rows, std::int64_t first, Range columns) {
        Stored* output = static_cast<Stored*>(a.output) + first * a.columns;
        multiply_segments(
            weight, rows, columns,
            [&]<int Count>(std::int64_t row, std::int64_t column) REFORMER_LAMBDA {
              prefetch_tile<Count>(output + row * a.columns + column, a.columns, true);
            },
            [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                        std::int64_t column) REFORMER_LAMBDA {
              for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
                const std::int64_t at = column + v * kLanes;
                store_vector(output + (row + r) * a.columns + at,
                             tile[r][v] * load(a.scale + at) + load(bias + at));
              });
            });
      });
}

}  // namespace reformer::REFORMER_ISA
