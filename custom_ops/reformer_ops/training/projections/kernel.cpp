#include "training/projections/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "layer_norm.h"
#include "products.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

LayerNorm norm_of(const ProjectionsArguments& a) {
  return {a.norm_weight, a.norm_bias, a.hidden, a.epsilon};
}

}  // namespace

void projections(const ProjectionsArguments& a, const std::vector<float*>& outputs,
                 const Parallel& parallel) {
  const std::size_t count = a.weights.size();
  Scratch& shared = Scratch::of_this_call();
  shared.reset(count * Panels::bytes(a.hidden, a.width));
  std::vector<Panels> panels;
  for (std::size_t i = 0; i < count; ++i) panels.push_back(Panels::take(a.hidden, a.width, shared));
  const std::size_t each = Panels::count(a.width);
  parallel_for(parallel, count * each, [&](std::size_t index) {
    pack_transposed_panel(a.weights[index / each], panels[index / each], index % each);
  });
  const LayerNorm norm = norm_of(a);
  parallel_for(parallel, blocks_of(a.rows), [&](std::size_t block) {
    const std::int64_t first = static_cast<std::int64_t>(block) * kRowBlock;
    const std::int64_t rows = std::min(kRowBlock, a.rows - first);
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset(Scratch::bytes_of<float>(kRowBlock * a.hidden));
    float* normalised = scratch.take<float>(kRowBlock * a.hidden);
    norm.apply(a.input + first * a.hidden, rows, normalised);
    for (std::size_t i = 0; i < count; ++i)
      write_product(normalised, rows, panels[i], outputs[i] + first * a.width);
  });
}

void projections_backward(const ProjectionsArguments& a, const ProjectionsGradients& gradients,
                          const Parallel& parallel) {
  const std::int64_t count = a.weights.size(), joined_width = count * a.width;
  const RowSpans spans(a.rows);
  Scratch& shared = Scratch::of_this_call();
  shared.reset(Panels::bytes(joined_width, a.hidden) +
               Scratch::bytes_of<float>(joined_width * a.hidden) +
               Scratch::bytes_of<float>(spans.longest * a.hidden) +
               Scratch::bytes_of<float>(spans.longest * joined_width) +
               Scratch::bytes_of<float>(blocks_of(spans.longest) * 2 * a.hidden));
  // The weights and their gradients are joined as rows of one matrix, the gradients of the outputs
  // as columns.
  const Panels panels = Panels::take(joined_width, a.hidden, shared);
  float* weight_sums = shared.take<float>(joined_width * a.hidden);
  float* normalised = shared.take<float>(spans.longest * a.hidden);
  float* joined = shared.take<float>(spans.longest * joined_width);
  float* block_sums = shared.take<float>(blocks_of(spans.longest) * 2 * a.hidden);
  parallel_for(parallel, panels.count(), [&](std::size_t index) {
    const std::int64_t column = static_cast<std::int64_t>(index) * kPanel;
    for (std::int64_t i = 0; i < count; ++i)
      pack_lines(a.weights[i] + column, a.hidden, a.width, a.hidden - column,
                 panels.panel(index) + i * a.width * kPanel);
  });
  std::fill_n(weight_sums, joined_width * a.hidden, 0.0f);
  std::fill_n(gradients.norm_weight, a.hidden, 0.0f);
  std::fill_n(gradients.norm_bias, a.hidden, 0.0f);

  const LayerNorm norm = norm_of(a);
  spans.for_each([&](std::int64_t start, std::int64_t span_rows) {
    parallel_for(parallel, blocks_of(span_rows), [&](std::size_t block) {
      const std::int64_t offset = static_cast<std::int64_t>(block) * kRowBlock;
      const std::int64_t first = start + offset, rows = std::min(kRowBlock, span_rows - offset);
      Scratch& scratch = Scratch::of_this_thread();
      scratch.reset(Scratch::bytes_of<float>(kRowBlock * a.hidden));
      float* norm_gradients = scratch.take<float>(kRowBlock * a.hidden);
      float* side_by_side = joined + offset * joined_width;
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < count; ++i)
          std::copy_n(gradients.outputs[i] + (first + row) * a.width, a.width,
                      side_by_side + row * joined_width + i * a.width);
      write_product(side_by_side, rows, panels, norm_gradients);
      const float* input = a.input + first * a.hidden;
      float* sums = block_sums + static_cast<std::int64_t>(block) * 2 * a.hidden;
      std::fill_n(sums, 2 * a.hidden, 0.0f);
      norm.apply(input, rows, normalised + offset * a.hidden);
      norm.differentiate(input, norm_gradients, rows, gradients.input + first * a.hidden, sums,
                         sums + a.hidden);
    });
    for (std::int64_t block = 0; block < blocks_of(span_rows); ++block) {
      add_rows(block_sums + block * 2 * a.hidden, 1, a.hidden, gradients.norm_weight);
      add_rows(block_sums + (block * 2 + 1) * a.hidden, 1, a.hidden, gradients.norm_bias);
    }
    const TransposedProduct product{joined, joined_width, normalised, a.hidden, weight_sums};
    parallel_for(parallel, product.tasks(), [&](std::size_t task) {
      Scratch& scratch = Scratch::of_this_thread();
      scratch.reset(TransposedProduct::bytes());
      product.add(span_rows, task, scratch);
    });
  });
  for (std::int64_t i = 0; i < count; ++i)
    std::copy_n(weight_sums + i * a.width * a.hidden, a.width * a.hidden, gradients.weights[i]);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(projections)
REFORMER_DISPATCH(projections_backward)
namespace {

void check_hidden(const ProjectionsArguments& arguments) {
  if (arguments.hidden % 16 != 0)
    throw Error("projections takes a hidden size that is a multiple of 16; got " +
                std::to_string(arguments.hidden));
}

}  // namespace

void projections(const ProjectionsArguments& arguments, const std::vector<float*>& outputs,
                 const Parallel& parallel) {
  check_hidden(arguments);
  active_projections()(arguments, outputs, parallel);
}

void projections_backward(const ProjectionsArguments& arguments,
                          const ProjectionsGradients& gradients, const Parallel& parallel) {
  check_hidden(arguments);
  active_projections_backward()(arguments, gradients, parallel);
}

}  // namespace reformer
#endif
