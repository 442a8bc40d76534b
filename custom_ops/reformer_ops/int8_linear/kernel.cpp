#include "int8_linear/kernel.h"

#include "int8_panels.h"
#include "isa.h"
#include "linear_layers.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored, typename Number>
void run(const Int8LinearArguments& a, const Parallel& parallel) {
  Scratch& scratch = Scratch::of_this_call();
  scratch.reset(Scratch::bytes_of<float>(a.columns));
  const float* bias = widened<Stored>(a.bias, a.columns, scratch);
  const Int8Panels<Number> weight{a.weight, a.depth};
  run_linear<Int8Segments<Number>>(
      parallel, a.rows, a.depth, a.columns,
      [&](std::int64_t first, const Int8Segments<Number>& rows) {
        write_rows(static_cast<const Stored*>(a.input) + first * a.depth, rows);
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

template <typename Stored>
void run(const Int8LinearArguments& a, const Parallel& parallel) {
#ifdef REFORMER_INT8_DOT
  if (has_int8_dot()) return run<Stored, std::int8_t>(a, parallel);
#endif
  run<Stored, float>(a, parallel);
}

}  // namespace

void int8_linear(const Int8LinearArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(int8_linear)

void int8_linear(const Int8LinearArguments& arguments, const Parallel& parallel) {
  active_int8_linear()(arguments, parallel);
}

}  // namespace reformer
#endif
