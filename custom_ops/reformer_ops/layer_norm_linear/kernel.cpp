#include "layer_norm_linear/kernel.h"

#include "isa.h"
#include "linear_layers.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
void run(const LayerNormLinearArguments& a, const Parallel& parallel) {
  Scratch& scratch = Scratch::of_this_call();
  scratch.reset(RowNorm<Stored>::bytes(a.hidden));
  const RowNorm<Stored> norm(a.input, a.norm_weight, a.norm_bias, a.hidden, a.epsilon, scratch);
  const WeightPanels<Stored> weight{static_cast<const Stored*>(a.weight), a.hidden};
  run_linear(
      parallel, a.rows, a.hidden, a.columns,
      [&](std::int64_t first, Range range, const Segments& rows) {
        norm.apply(first, range, rows);
      },
      [&](const Segments& rows, std::int64_t first, Range columns) {
        Stored* output = static_cast<Stored*>(a.output) + first * a.columns;
        multiply_segments(
            weight, rows, columns,
            [&]<int Count>(std::int64_t row, std::int64_t column) REFORMER_LAMBDA {
              prefetch_tile<Count>(output + row * a.columns + column, a.columns, true);
            },
            [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                        std::int64_t column) REFORMER_LAMBDA {
              for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
                store_vector(output + (row + r) * a.columns + column + v * kLanes, tile[r][v]);
              });
            });
      });
}

}  // namespace

void layer_norm_linear(const LayerNormLinearArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(layer_norm_linear)

void layer_norm_linear(const LayerNormLinearArguments& arguments, const Parallel& parallel) {
  active_layer_norm_linear()(arguments, parallel);
}

}  // namespace reformer
#endif
