#include "training/feed_forward/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "layer_norm.h"
#include "products.h"
#include "vector_dropout.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

LayerNorm norm_of(const FeedForwardArguments& a) {
  return {a.norm_weight, a.norm_bias, a.hidden, a.epsilon};
}

// The forward pass over blocks of rows.
class Forward {
 public:
  static std::size_t bytes(const FeedForwardArguments& a) {
    return Panels::bytes(a.hidden, a.feed_forward) + Panels::bytes(a.feed_forward, a.hidden);
  }

  Forward(const FeedForwardArguments& a, Scratch& scratch)
      : a_(a),
        norm_(norm_of(a)),
        up_dropout_(a.dropout),
        down_dropout_(a.dropout.from_row(a.rows)),
        up_(Panels::take(a.hidden, a.feed_forward, scratch)),
        down_(Panels::take(a.feed_forward, a.hidden, scratch)) {}

  // Packs the weights, in pack_tasks() tasks.
  std::int64_t pack_tasks() const { return up_.count() + down_.count(); }
  void pack(std::int64_t task) const {
    if (task < up_.count())
      pack_transposed_panel(a_.up_weight, up_, task);
    else
      pack_transposed_panel(a_.down_weight, down_, task - up_.count());
  }

  // For `count` rows from `first` on: writes the output of the norm and of the ReLU.
  void go_up(std::int64_t first, std::int64_t count, float* normalised, float* activated) const {
    norm_.apply(a_.input + first * a_.hidden, count, normalised);
    run_linear(normalised, first, count, up_, a_.up_bias, up_dropout_,
               [&](std::int64_t row, std::int64_t column, Floats x) REFORMER_LAMBDA {
                 x = x < Floats{} ? Floats{} : x;  // NaN stays NaN
                 store(activated + row * a_.feed_forward + column, x);
               });
  }

  // Computes the output from the output of the ReLU.
  void come_down(std::int64_t first, std::int64_t count, const float* activated,
                 float* output) const {
    float* to = output + first * a_.hidden;
    run_linear(activated, first, count, down_, a_.down_bias, down_dropout_,
               [&](std::int64_t row, std::int64_t column, Floats x)
                   REFORMER_LAMBDA { store(to + row * a_.hidden + column, x); });
  }

  const VectorDropout& down_dropout() const { return down_dropout_; }

 private:
  // Computes a linear layer and dropout. Calls write(row, column, vector) for all of the result.
  template <typename Write>
  REFORMER_INLINE static void run_linear(const float* rows, std::int64_t first, std::int64_t count,
                                         const Panels& panels, const float* bias,
                                         const VectorDropout& dropout, Write&& write) {
    multiply_rows(rows, count, panels,
                  [&]<int Rows, int Vectors>(const Floats(&tile)[Rows][Vectors], std::int64_t row,
                                             std::int64_t column) REFORMER_LAMBDA {
#pragma GCC unroll 4
                    for (int v = 0; v < Vectors; ++v) {
                      const std::int64_t at = column + v * kLanes;
                      const Floats shift = load(bias + at);
#pragma GCC unroll 8
                      for (int r = 0; r < Rows; ++r) {
                        Floats x = tile[r][v] + shift;
                        if (dropout.drops()) x = dropout.apply(x, first + row + r, at);
                        write(row + r, at, x);
                      }
                    }
                  });
  }

  const FeedForwardArguments& a_;
  LayerNorm norm_;
  VectorDropout up_dropout_, down_dropout_;
  Panels up_, down_;
};

// The gradient sums of one block of rows, stored one after another.
struct BlockSums {
  float *norm_weight, *norm_bias, *up_bias, *down_bias;

  static std::int64_t floats(const FeedForwardArguments& a) {
    return 3 * a.hidden + a.feed_forward;
  }

  BlockSums(const FeedForwardArguments& a, float* sums)
      : norm_weight(sums),
        norm_bias(sums + a.hidden),
        up_bias(sums + 2 * a.hidden),
        down_bias(sums + 2 * a.hidden + a.feed_forward) {}
};

// The backward pass over spans of rows. It recomputes the forward pass.
class Backward {
 public:
  static std::size_t bytes(const FeedForwardArguments& a) {
    const std::int64_t rows = RowSpans(a.rows).longest;
    return Forward::bytes(a) + Panels::bytes(a.hidden, a.feed_forward) +
           Panels::bytes(a.feed_forward, a.hidden) + 2 * Scratch::bytes_of<float>(rows * a.hidden) +
           2 * Scratch::bytes_of<float>(rows * a.feed_forward) +
           Scratch::bytes_of<float>(blocks_of(rows) * BlockSums::floats(a));
  }

  Backward(const FeedForwardArguments& a, const FeedForwardGradients& gradients, float* output,
           Scratch& scratch)
      : a_(a),
        to_(gradients),
        output_(output),
        norm_(norm_of(a)),
        forward_(a, scratch),
        down_(Panels::take(a.hidden, a.feed_forward, scratch)),
        up_(Panels::take(a.feed_forward, a.hidden, scratch)) {
    const std::int64_t rows = RowSpans(a.rows).longest;
    normalised_ = scratch.take<float>(rows * a.hidden);
    dropped_ = scratch.take<float>(rows * a.hidden);
    activated_ = scratch.take<float>(rows * a.feed_forward);
    up_gradients_ = scratch.take<float>(rows * a.feed_forward);
    block_sums_ = scratch.take<float>(blocks_of(rows) * BlockSums::floats(a));
  }

  void run(const Parallel& parallel) {
    const std::int64_t packs = forward_.pack_tasks();
    parallel_for(parallel, packs + down_.count() + up_.count(), [&](std::size_t index) {
      const std::int64_t task = static_cast<std::int64_t>(index);
      if (task < packs)
        forward_.pack(task);
      else if (task < packs + down_.count())
        pack_panel(a_.down_weight, down_, task - packs);
      else
        pack_panel(a_.up_weight, up_, task - packs - down_.count());
    });
    for (float* sums : {to_.up_weight, to_.down_weight})
      std::fill_n(sums, a_.hidden * a_.feed_forward, 0.0f);
    for (float* sums : {to_.norm_weight, to_.norm_bias, to_.down_bias})
      std::fill_n(sums, a_.hidden, 0.0f);
    std::fill_n(to_.up_bias, a_.feed_forward, 0.0f);
    RowSpans(a_.rows).for_each(
        [&](std::int64_t first, std::int64_t rows) { run_span(first, rows, parallel); });
  }

 private:
  void run_span(std::int64_t first, std::int64_t rows, const Parallel& parallel) {
    parallel_for(parallel, blocks_of(rows), [&](std::size_t index) {
      const std::int64_t start = static_cast<std::int64_t>(index) * kRowBlock;
      differentiate(first, start, std::min(kRowBlock, rows - start));
    });
    for (std::int64_t block = 0; block < blocks_of(rows); ++block) add_sums(block);
    const TransposedProduct up{up_gradients_, a_.feed_forward, normalised_, a_.hidden,
                               to_.up_weight};
    const TransposedProduct down{gradients_from(first, 0), a_.hidden, activated_, a_.feed_forward,
                                 to_.down_weight};
    parallel_for(parallel, up.tasks() + down.tasks(), [&](std::size_t index) {
      const std::int64_t task = static_cast<std::int64_t>(index);
      Scratch& scratch = Scratch::of_this_thread();
      scratch.reset(TransposedProduct::bytes());
      if (task < up.tasks())
        up.add(rows, task, scratch);
      else
        down.add(rows, task - up.tasks(), scratch);
    });
  }

  // The gradients of the second linear layer's output before dropout, from row `start` of the span
  // on.
  const float* gradients_from(std::int64_t first, std::int64_t start) const {
    return forward_.down_dropout().drops() ? dropped_ + start * a_.hidden
                                           : to_.output + (first + start) * a_.hidden;
  }

  // The backward pass for one block of rows, except the gradients of the two matrices. The span
  // begins at row `first`, the block at row `first + start`.
  void differentiate(std::int64_t first, std::int64_t start, std::int64_t rows) {
    const std::int64_t hidden = a_.hidden, inner = a_.feed_forward, row = first + start;
    float* normalised = normalised_ + start * hidden;
    float* activated = activated_ + start * inner;
    float* up_gradients = up_gradients_ + start * inner;
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset(Scratch::bytes_of<float>(kRowBlock * hidden));
    float* norm_gradients = scratch.take<float>(kRowBlock * hidden);

    forward_.go_up(row, rows, normalised, activated);
    if (output_ != nullptr) forward_.come_down(row, rows, activated, output_);
    if (forward_.down_dropout().drops())
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t column = 0; column < hidden; column += kLanes)
          store(dropped_ + (start + i) * hidden + column,
                forward_.down_dropout().apply(load(to_.output + (row + i) * hidden + column),
                                              row + i, column));
    const float* gradients = gradients_from(first, start);
    const float scale = a_.dropout.scale;
    multiply_rows(gradients, rows, down_,
                  [&]<int Rows, int Vectors>(const Floats(&tile)[Rows][Vectors], std::int64_t i,
                                             std::int64_t column) REFORMER_LAMBDA {
#pragma GCC unroll 8
                    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
                      for (int v = 0; v < Vectors; ++v) {
                        // The gradient is 0 where the ReLU or dropout gave 0.
                        const std::int64_t at = (i + r) * inner + column + v * kLanes;
                        const auto open = load(activated + at) > Floats{};
                        store(up_gradients + at, open ? tile[r][v] * scale : Floats{});
                      }
                  });
    write_product(up_gradients, rows, up_, norm_gradients);
    float* sums = block_sums_ + start / kRowBlock * BlockSums::floats(a_);
    std::fill_n(sums, BlockSums::floats(a_), 0.0f);
    const BlockSums block(a_, sums);
    norm_.differentiate(a_.input + row * hidden, norm_gradients, rows, to_.input + row * hidden,
                        block.norm_weight, block.norm_bias);
    add_rows(up_gradients, rows, inner, block.up_bias);
    add_rows(gradients, rows, hidden, block.down_bias);
  }

  void add_sums(std::int64_t block) {
    const BlockSums sums(a_, block_sums_ + block * BlockSums::floats(a_));
    add_rows(sums.norm_weight, 1, a_.hidden, to_.norm_weight);
    add_rows(sums.norm_bias, 1, a_.hidden, to_.norm_bias);
    add_rows(sums.up_bias, 1, a_.feed_forward, to_.up_bias);
    add_rows(sums.down_bias, 1, a_.hidden, to_.down_bias);
  }

  const FeedForwardArguments& a_;
  const FeedForwardGradients& to_;
  float* output_;
  LayerNorm norm_;
  Forward forward_;
  Panels down_, up_;
  // For the rows of one span:
  float* normalised_;    // [rows, hidden]
  float* dropped_;       // [rows, hidden] gradients before dropout; unused without dropout
  float* activated_;     // [rows, feed_forward] output of the ReLU
  float* up_gradients_;  // [rows, feed_forward] gradients of the first linear layer's output
  float* block_sums_;    // [blocks][BlockSums::floats()]
};

}  // namespace

void feed_forward(const FeedForwardArguments& a, float* output, const Parallel& parallel) {
  Scratch& shared = Scratch::of_this_call();
  shared.reset(Forward::bytes(a));
  const Forward forward(a, shared);
  parallel_for(parallel, forward.pack_tasks(), [&](std::size_t task) { forward.pack(task); });
  parallel_for(parallel, blocks_of(a.rows), [&](std::size_t block) {
    const std::int64_t first = static_cast<std::int64_t>(block) * kRowBlock;
    const std::int64_t rows = std::min(kRowBlock, a.rows - first);
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset(Scratch::bytes_of<float>(kRowBlock * a.hidden) +
                  Scratch::bytes_of<float>(kRowBlock * a.feed_forward));
    float* normalised = scratch.take<float>(kRowBlock * a.hidden);
    float* activated = scratch.take<float>(kRowBlock * a.feed_forward);
    forward.go_up(first, rows, normalised, activated);
    forward.come_down(first, rows, activated, output);
  });
}

void feed_forward_backward(const FeedForwardArguments& a, const FeedForwardGradients& gradients,
                           float* output, const Parallel& parallel) {
  Scratch& shared = Scratch::of_this_call();
  shared.reset(Backward::bytes(a));
  Backward(a, gradients, output, shared).run(parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(feed_forward)
REFORMER_DISPATCH(feed_forward_backward)
namespace {

void check_sizes(const FeedForwardArguments& arguments) {
  for (std::int64_t size : {arguments.hidden, arguments.feed_forward})
    if (size % 16 != 0)
      throw Error("feed_forward takes sizes that are multiples of 16; got hidden " +
                  std::to_string(arguments.hidden) + ", feed_forward " +
                  std::to_string(arguments.feed_forward));
}

}  // namespace

void feed_forward(const FeedForwardArguments& arguments, float* output, const Parallel& parallel) {
  check_sizes(arguments);
  active_feed_forward()(arguments, output, parallel);
}

void feed_forward_backward(const FeedForwardArguments& arguments,
                           const FeedForwardGradients& gradients, float* output,
                           const Parallel& parallel) {
  check_sizes(arguments);
  active_feed_forward_backward()(arguments, gradients, output, parallel);
}

}  // namespace reformer
#endif
