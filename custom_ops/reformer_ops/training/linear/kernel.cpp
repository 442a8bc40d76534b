#include "training/linear/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "products.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// Writes the product of `rows` rows with the panels. pack(panels, index) fills a panel.
template <typename Pack>
void multiply_in_parallel(const float* from, std::int64_t rows, std::int64_t depth,
                          std::int64_t columns, float* to, const Parallel& parallel, Pack&& pack) {
  Scratch& scratch = Scratch::of_this_call();
  scratch.reset(Panels::bytes(depth, columns));
  const Panels panels = Panels::take(depth, columns, scratch);
  parallel_for(parallel, panels.count(), [&](std::size_t index) { pack(panels, index); });
  parallel_for(parallel, blocks_of(rows), [&](std::size_t block) {
    const std::int64_t first = static_cast<std::int64_t>(block) * kRowBlock;
    write_product(from + first * depth, std::min(kRowBlock, rows - first), panels,
                  to + first * columns);
  });
}

}  // namespace

void linear(const LinearSizes& sizes, const float* input, const float* weight, float* output,
            const Parallel& parallel) {
  multiply_in_parallel(input, sizes.rows, sizes.in_features, sizes.out_features, output, parallel,
                       [&](const Panels& panels, std::size_t index) {
                         pack_transposed_panel(weight, panels, index);
                       });
}

void linear_input_gradient(const LinearSizes& sizes, const float* gradient, const float* weight,
                           float* input_gradient, const Parallel& parallel) {
  multiply_in_parallel(
      gradient, sizes.rows, sizes.out_features, sizes.in_features, input_gradient, parallel,
      [&](const Panels& panels, std::size_t index) { pack_panel(weight, panels, index); });
}

void linear_weight_gradient(const LinearSizes& sizes, const float* gradient, const float* input,
                            float* weight_gradient, const Parallel& parallel) {
  std::fill_n(weight_gradient, sizes.out_features * sizes.in_features, 0.0f);
  RowSpans(sizes.rows).for_each([&](std::int64_t first, std::int64_t rows) {
    const TransposedProduct product{gradient + first * sizes.out_features, sizes.out_features,
                                    input + first * sizes.in_features, sizes.in_features,
                                    weight_gradient};
    parallel_for(parallel, product.tasks(), [&](std::size_t task) {
      Scratch& scratch = Scratch::of_this_thread();
      scratch.reset(TransposedProduct::bytes());
      product.add(rows, task, scratch);
    });
  });
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(linear)
REFORMER_DISPATCH(linear_input_gradient)
REFORMER_DISPATCH(linear_weight_gradient)
namespace {

void check(const LinearSizes& sizes) {
  if (sizes.in_features % 16 != 0)
    throw Error("linear takes in_features that are a multiple of 16; got " +
                std::to_string(sizes.in_features));
}

}  // namespace

void linear(const LinearSizes& sizes, const float* input, const float* weight, float* output,
            const Parallel& parallel) {
  check(sizes);
  active_linear()(sizes, input, weight, output, parallel);
}

void linear_input_gradient(const LinearSizes& sizes, const float* gradient, const float* weight,
                           float* input_gradient, const Parallel& parallel) {
  check(sizes);
  active_linear_input_gradient()(sizes, gradient, weight, input_gradient, parallel);
}

void linear_weight_gradient(const LinearSizes& sizes, const float* gradient, const float* input,
                            float* weight_gradient, const Parallel& parallel) {
  check(sizes);
  active_linear_weight_gradient()(sizes, gradient, input, weight_gradient, parallel);
}

}  // namespace reformer
#endif
