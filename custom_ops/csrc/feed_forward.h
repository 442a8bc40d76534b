// The feed-forward of a layer with the norm before it and the sum after it, for weights of every
// type.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "feed_forward_add/kernel.h"
#include "linear_layers.h"
#include "vector_activation.h"

namespace reformer::REFORMER_ISA {

// Weights of the model's type.
template <typename Stored>
struct ModelWeights {
  using Rows = Segments;
  using Panels = WeightPanels<Stored>;
  static constexpr bool kHaveScales = false;

  static Panels panels(const void* weight, const std::int8_t*, std::int64_t depth) {
    return {static_cast<const Stored*>(weight), depth};
  }
};

template <typename Stored, typename Weights>
class FeedForwardAdd {
  using Rows = typename Weights::Rows;
  using Panels = typename Weights::Panels;

 public:
  // Takes bytes(a) from `scratch`.
  FeedForwardAdd(const FeedForwardAddArguments& a, Scratch& scratch)
      : a_(a),
        up_(Weights::panels(a.up_weight, a.up_step, a.hidden)),
        down_(Weights::panels(a.down_weight, a.down_step, a.feed_forward)),
        blocks_(a.rows),
        norm_(a.input, a.norm_weight, a.norm_bias, a.hidden, a.epsilon, scratch),
        up_bias_(widened<Stored>(a.up_bias, a.feed_forward, scratch)),
        down_bias_(widened<Stored>(a.down_bias, a.hidden, scratch)),
        normalised_(scratch.take<std::byte>(few_rows(a) * Rows::row_bytes(a.hidden))),
        activated_(scratch.take<float>(few_rows(a) * a.feed_forward)),
        rounded_(scratch.take<std::byte>(rounded_bytes(few_rows(a), a.feed_forward))) {}

  static std::size_t bytes(const FeedForwardAddArguments& a) {
    return RowNorm<Stored>::bytes(a.hidden) + Scratch::bytes_of<float>(a.feed_forward) +
           Scratch::bytes_of<float>(a.hidden) +
           Scratch::bytes_of<std::byte>(few_rows(a) * Rows::row_bytes(a.hidden)) +
           Scratch::bytes_of<float>(few_rows(a) * a.feed_forward) +
           Scratch::bytes_of<std::byte>(rounded_bytes(few_rows(a), a.feed_forward));
  }

  void run(const Parallel& parallel) const {
    if (blocks_.are_many()) {
      blocks_.each(parallel, [&](std::int64_t first) { run_block(first); });
      return;
    }
    const auto normalised = [&](std::int64_t first) {
      return Rows::in(normalised_ + first * Rows::row_bytes(a_.hidden), blocks_.rows_from(first),
                      a_.hidden);
    };
    const auto activated = [&](std::int64_t first) {
      return Segments{activated_ + first * a_.feed_forward, blocks_.rows_from(first),
                      a_.feed_forward};
    };
    // The rows of the second product.
    const auto rounded = [&](std::int64_t first) {
      if constexpr (Weights::kHaveScales)
        return Rows::in(rounded_ + rounded_bytes(first, a_.feed_forward), blocks_.rows_from(first),
                        a_.feed_forward);
      else
        return activated(first);
    };
    blocks_.each_group(parallel, [&](std::int64_t first, Range range) {
      norm_.apply(first, range, normalised(first));
    });
    blocks_.each_part(parallel, a_.hidden, a_.feed_forward, [&](std::int64_t first, Range columns) {
      go_up(normalised(first), columns, activated(first), 0);
    });
    if constexpr (Weights::kHaveScales)
      blocks_.each_group(parallel, [&](std::int64_t first, Range range) {
        write_rows(activated(first), range, rounded(first));
      });
    blocks_.each_part(parallel, a_.feed_forward, a_.hidden, [&](std::int64_t first, Range columns) {
      multiply_segments(
          down_, rounded(first), columns,
          [&]<int Count>(std::int64_t row, std::int64_t column)
              REFORMER_LAMBDA { prepare<Count>(first + row, column); },
          [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                      std::int64_t column)
              REFORMER_LAMBDA { finish(tile, first + row, column); });
    });
  }

 private:
  // The rows of a call if its tasks share the intermediate rows; 0 if each task has its own.
  static std::int64_t few_rows(const FeedForwardAddArguments& a) {
    return RowBlocks(a.rows).are_many() ? 0 : a.rows;
  }

  static std::size_t rounded_bytes(std::int64_t rows, std::int64_t width) {
    return Weights::kHaveScales ? rows * Rows::row_bytes(width) : 0;
  }

  // A product, in the units of the output.
  REFORMER_INLINE static Floats scaled(Floats x, const float* scale, std::int64_t column) {
    if constexpr (Weights::kHaveScales)
      return x * load(scale + column);
    else
      return x;
  }

  // Computes everything for one block of rows. The outputs are summed over segments of features.
  void run_block(std::int64_t first) const {
    Scratch& scratch = Scratch::of_this_thread();
    const std::int64_t rows = blocks_.rows_from(first);
    scratch.reset(Scratch::bytes_of<std::byte>(rows * Rows::row_bytes(a_.hidden)) +
                  Scratch::bytes_of<float>(rows * a_.hidden) +
                  Scratch::bytes_of<float>(rows * Rows::kWidth) +
                  Scratch::bytes_of<std::byte>(rounded_bytes(rows, Rows::kWidth)));
    const Rows normalised =
        Rows::in(scratch.take<std::byte>(rows * Rows::row_bytes(a_.hidden)), rows, a_.hidden);
    float* sums = scratch.take<float>(rows * a_.hidden);
    float* activated = scratch.take<float>(rows * Rows::kWidth);
    std::byte* rounded = scratch.take<std::byte>(rounded_bytes(rows, Rows::kWidth));
    norm_.apply(first, {0, rows}, normalised);
    for (std::int64_t start = 0; start < a_.feed_forward; start += Rows::kWidth) {
      const Range features{start, std::min(a_.feed_forward, start + Rows::kWidth)};
      const Segments segment{activated, rows, features.size()};
      go_up(normalised, features, segment, start);
      if constexpr (Weights::kHaveScales) {
        const Rows integers = Rows::in(rounded, rows, features.size());
        write_rows(segment, {0, rows}, integers);
        come_down(integers.block(0), first, features, sums);
      } else {
        come_down(segment.block(0), first, features, sums);
      }
    }
  }

  // Computes the first linear layer and the activation for these features. `activated` begins at
  // feature `start`.
  void go_up(const Rows& normalised, Range features, const Segments& activated,
             std::int64_t start) const {
    multiply_segments(
        up_, normalised, features, []<int>(std::int64_t, std::int64_t) REFORMER_LAMBDA {},
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
            const std::int64_t feature = column + v * kLanes;
            store(activated.at(row + r, feature - start),
                  scaled(tile[r][v], a_.up_scale, feature) + load(up_bias_ + feature));
          });
        });
    for_each_piece(activated, {features.first - start, features.last - start},
                   [&](std::int64_t row, std::int64_t column, std::int64_t count) {
                     activate(a_.activation, activated.at(row, column), count);
                   });
  }

  // Adds the products of some features to the sums, [rows, hidden]; the last features write the
  // output.
  template <typename Block>
  void come_down(const Block& activated, std::int64_t first, Range features, float* sums) const {
    const bool is_last = features.last == a_.feed_forward;
    down_.multiply(
        activated, features, {0, a_.hidden}, wide_weights<Panels>(features.size()),
        [&]<int Count, int Vectors>(Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          if (is_last) prepare<Count>(first + row, column);
          if (features.first == 0) return clear_tile(tile);
          load_tile(tile, sums + row * a_.hidden + column, a_.hidden);
        },
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          if (is_last) return finish(tile, first + row, column);
          store_tile(tile, sums + row * a_.hidden + column, a_.hidden);
        });
  }

  template <int Count>
  REFORMER_INLINE void prepare(std::int64_t row, std::int64_t column) const {
    const std::int64_t place = row * a_.hidden + column;
    prefetch_tile<Count>(static_cast<const Stored*>(a_.residual) + place, a_.hidden, false);
    prefetch_tile<Count>(static_cast<const Stored*>(a_.output) + place, a_.hidden, true);
  }

  // Writes a tile of the output.
  template <int Count, int Vectors>
  REFORMER_INLINE void finish(const Floats (&tile)[Count][Vectors], std::int64_t row,
                              std::int64_t column) const {
    for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
      const std::int64_t at = column + v * kLanes, place = (row + r) * a_.hidden + at;
      store_sum(static_cast<Stored*>(a_.output) + place,
                static_cast<const Stored*>(a_.residual) + place,
                scaled(tile[r][v], a_.down_scale, at) + load(down_bias_ + at));
    });
  }

  const FeedForwardAddArguments& a_;
  Panels up_, down_;
  const RowBlocks blocks_;
  const RowNorm<Stored> norm_;
  const float *up_bias_, *down_bias_;
  // Intermediate rows that tasks share if there are few rows:
  std::byte* normalised_;
  float* activated_;
  std::byte* rounded_;
};

template <typename Stored, typename Weights>
void run_feed_forward(const FeedForwardAddArguments& a, const Parallel& parallel) {
  Scratch& scratch = Scratch::of_this_call();
  scratch.reset(FeedForwardAdd<Stored, Weights>::bytes(a));
  FeedForwardAdd<Stored, Weights>(a, scratch).run(parallel);
}

}  // namespace reformer::REFORMER_ISA
