#include "linear_add/kernel.h"

#include "isa.h"
#include "linear_layers.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
void run(const LinearAddArguments& a, const Parallel& parallel) {
  const WeightPanels<Stored> weight{static_cast<const Stored*>(a.weight), a.depth};
  run_linear(
      parallel, a.rows, a.depth, a.hidden,
      [&](std::int64_t first, Range range, const Segments& rows) {
        copy_rows(static_cast<const Stored*>(a.input) + first * a.depth, range, rows);
      },
      [&](const Segments& rows, std::int64_t first, Range columns) {
        const Stored* residual = static_cast<const Stored*>(a.residual) + first * a.hidden;
        Stored* output = static_cast<Stored*>(a.output) + first * a.hidden;
        multiply_segments(
            weight, rows, columns,
            [&]<int Count>(std::int64_t row, std::int64_t column) REFORMER_LAMBDA {
              prefetch_tile<Count>(residual + row * a.hidden + column, a.hidden, false);
              prefetch_tile<Count>(output + row * a.hidden + column, a.hidden, true);
            },
            [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                        std::int64_t column) REFORMER_LAMBDA {
              for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
                const std::int64_t place = (row + r) * a.hidden + column + v * kLanes;
                store_sum(output + place, residual + place, tile[r][v]);
              });
            });
      });
}

}  // namespace

void linear_add(const LinearAddArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(linear_add)

void linear_add(const LinearAddArguments& arguments, const Parallel& parallel) {
  active_linear_add()(arguments, parallel);
}

}  // namespace reformer
#endif
