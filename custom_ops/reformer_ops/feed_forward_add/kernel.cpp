#include "feed_forward_add/kernel.h"

#include <algorithm>
#include <type_traits>

#include "isa.h"
#include "layer_norm.h"
#include "vector_activation.h"
#include "weight_panels.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// Rows of a block. All weights are read for them once.
constexpr std::int64_t kMostRows = 192, kFewestRows = 96;
static_assert(kMostRows % kTileRows == 0 && kFewestRows % kTileRows == 0);
// Features between the linear layers that are computed before they are used.
constexpr std::int64_t kSegment = 256;
// With at least so many blocks, a task is a block. Else the columns are divided too.
constexpr std::int64_t kManyBlocks = 8;
// Tasks of a few rows, each with as many columns.
constexpr std::int64_t kColumnTasks = 16;

template <typename Stored>
class FeedForwardAdd {
 public:
  FeedForwardAdd(const FeedForwardAddArguments& a, Scratch& scratch)
      : a_(a),
        up_{static_cast<const Stored*>(a.up_weight), a.hidden},
        down_{static_cast<const Stored*>(a.down_weight), a.feed_forward},
        block_rows_(a.rows >= kManyBlocks * kMostRows ? kMostRows : kFewestRows) {
    const std::int64_t few = has_many_blocks() ? 0 : a.rows;
    scratch.reset(
        3 * Scratch::bytes_of<float>(a.hidden) + Scratch::bytes_of<float>(a.feed_forward) +
        Scratch::bytes_of<float>(few * a.hidden) + Scratch::bytes_of<float>(few * a.feed_forward));
    norm_weight_ = widened(a.norm_weight, a.hidden, scratch);
    norm_bias_ = widened(a.norm_bias, a.hidden, scratch);
    down_bias_ = widened(a.down_bias, a.hidden, scratch);
    up_bias_ = widened(a.up_bias, a.feed_forward, scratch);
    normalised_ = scratch.take<float>(few * a.hidden);
    activated_ = scratch.take<float>(few * a.feed_forward);
  }

  void run(const Parallel& parallel) const {
    const std::size_t blocks = count_blocks();
    if (has_many_blocks()) {
      parallel_for(parallel, blocks, [&](std::size_t index) { run_block(index * block_rows_); });
      return;
    }
    parallel_for(parallel, blocks, [&](std::size_t index) {
      const std::int64_t first = index * block_rows_;
      normalise(first, rows_from(first), normalised_ + first * a_.hidden);
    });
    in_columns(parallel, a_.feed_forward, [&](std::int64_t first, Range columns) {
      go_up(normalised_ + first * a_.hidden, rows_from(first), columns,
            activated_ + first * a_.feed_forward + columns.first, a_.feed_forward);
    });
    in_columns(parallel, a_.hidden, [&](std::int64_t first, Range columns) {
      const RowBlock activated{activated_ + first * a_.feed_forward, rows_from(first),
                               a_.feed_forward};
      come_down(activated, first, {0, a_.feed_forward}, columns, nullptr);
    });
  }

 private:
  std::int64_t count_blocks() const { return (a_.rows + block_rows_ - 1) / block_rows_; }
  bool has_many_blocks() const { return count_blocks() >= kManyBlocks; }

  // The rows of the block that begins at row `first`.
  std::int64_t rows_from(std::int64_t first) const { return std::min(block_rows_, a_.rows - first); }

  static const float* widened(const void* stored, std::int64_t count, Scratch& scratch) {
    float* wide = scratch.take<float>(count);
    load_row(wide, static_cast<const Stored*>(stored), count);
    return wide;
  }

  // Calls task(first row, columns) for blocks of rows and parts of `columns`.
  template <typename Task>
  void in_columns(const Parallel& parallel, std::int64_t columns, Task&& task) const {
    const std::int64_t width =
        round_up((columns + kColumnTasks - 1) / kColumnTasks, kWideVectors * kLanes);
    const std::size_t parts = (columns + width - 1) / width;
    parallel_for(parallel, count_blocks() * parts, [&](std::size_t index) {
      const std::int64_t column = index % parts * width;
      task(index / parts * block_rows_, Range{column, std::min(columns, column + width)});
    });
  }

  // All of it for one block of rows. The outputs are summed over the segments.
  void run_block(std::int64_t first) const {
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset(2 * Scratch::bytes_of<float>(block_rows_ * a_.hidden) +
                  Scratch::bytes_of<float>(block_rows_ * kSegment));
    float* normalised = scratch.take<float>(block_rows_ * a_.hidden);
    float* sums = scratch.take<float>(block_rows_ * a_.hidden);
    float* activated = scratch.take<float>(block_rows_ * kSegment);
    const std::int64_t rows = rows_from(first);
    normalise(first, rows, normalised);
    for (std::int64_t start = 0; start < a_.feed_forward; start += kSegment) {
      const Range segment{start, std::min(a_.feed_forward, start + kSegment)};
      go_up(normalised, rows, segment, activated, kSegment);
      come_down({activated, rows, kSegment}, first, segment, {0, a_.hidden}, sums);
    }
  }

  void normalise(std::int64_t first, std::int64_t rows, float* normalised) const {
    const Stored* input = static_cast<const Stored*>(a_.input) + first * a_.hidden;
    const LayerNorm norm(norm_weight_, norm_bias_, a_.hidden, a_.epsilon);
    if constexpr (std::is_same_v<Stored, float>) {
      norm.apply(input, rows, normalised);
    } else {
      load_row(normalised, input, rows * a_.hidden);
      norm.apply(normalised, rows, normalised);
    }
  }

  // Memory for weights as fp32, where they are stored otherwise.
  float* wide_weights(std::int64_t lines) const {
    static thread_local Scratch scratch;
    scratch.reset(WeightPanels<Stored>::bytes(lines));
    return scratch.take<float>(0);
  }

  // These columns of the first linear layer and the activation, in rows `stride` floats apart.
  void go_up(const float* normalised, std::int64_t rows, Range columns, float* activated,
             std::int64_t stride) const {
    up_.multiply(
        RowBlock{normalised, rows, a_.hidden}, {0, a_.hidden}, columns, wide_weights(a_.hidden),
        [&]<int Count, int Vectors>(Floats(&tile)[Count][Vectors], std::int64_t, std::int64_t)
            REFORMER_LAMBDA { clear(tile); },
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          for_each(tile, [&](int r, int v) REFORMER_LAMBDA {
            const Floats bias = load(up_bias_ + column + v * kLanes);
            store(activated + (row + r) * stride + column - columns.first + v * kLanes,
                  tile[r][v] + bias);
          });
        });
    for (std::int64_t row = 0; row < rows; ++row)
      activate(a_.activation, activated + row * stride, columns.size());
  }

  // Adds the products of a segment to these columns of the sums. The last segment writes the
  // output. `sums` may be null if the segment is the whole.
  void come_down(RowBlock activated, std::int64_t first, Range segment, Range columns,
                 float* sums) const {
    const Stored* residual = static_cast<const Stored*>(a_.residual) + first * a_.hidden;
    Stored* output = static_cast<Stored*>(a_.output) + first * a_.hidden;
    const bool is_last = segment.last == a_.feed_forward;
    down_.multiply(
        activated, segment, columns, wide_weights(segment.size()),
        [&]<int Count, int Vectors>(Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          if (segment.first == 0) return clear(tile);
          load_tile(tile, sums + row * a_.hidden + column, a_.hidden);
        },
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          for_each(tile, [&](int r, int v) REFORMER_LAMBDA {
            const std::int64_t at = column + v * kLanes, place = (row + r) * a_.hidden + at;
            if (is_last)
              add_vector(output + place, residual + place, tile[r][v] + load(down_bias_ + at));
            else
              store(sums + place, tile[r][v]);
          });
        });
  }

  template <int Count, int Vectors>
  static REFORMER_INLINE void clear(Floats (&tile)[Count][Vectors]) {
    for_each(tile, [&](int r, int v) REFORMER_LAMBDA { tile[r][v] = Floats{}; });
  }

  template <int Count, int Vectors>
  static REFORMER_INLINE void load_tile(Floats (&tile)[Count][Vectors], const float* from,
                                        std::int64_t stride) {
    for_each(tile, [&](int r, int v)
                       REFORMER_LAMBDA { tile[r][v] = load(from + r * stride + v * kLanes); });
  }

  template <typename Tile, typename Function>
  static REFORMER_INLINE void for_each(Tile& tile, Function&& function) {
    constexpr int count = std::extent_v<std::remove_reference_t<Tile>, 0>;
    constexpr int vectors = std::extent_v<std::remove_reference_t<Tile>, 1>;
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) function(r, v);
  }

  static REFORMER_INLINE void add_vector(float* output, const float* residual, Floats x) {
    store(output, load(residual) + x);
  }
  static REFORMER_INLINE void add_vector(Half* output, const Half* residual, Floats x) {
    float sum[kLanes];
    load_row(sum, residual, kLanes);
    store(sum, load(sum) + x);
    store_row(output, sum, 1.0f, kLanes);
  }

  const FeedForwardAddArguments& a_;
  WeightPanels<Stored> up_, down_;
  const std::int64_t block_rows_;
  const float *norm_weight_, *norm_bias_, *up_bias_, *down_bias_;
  // Of a few rows:
  float *normalised_, *activated_;
};

}  // namespace

void feed_forward_add(const FeedForwardAddArguments& a, const Parallel& parallel) {
  Scratch& shared = Scratch::of_this_call();
  if (a.dtype == DType::f32)
    FeedForwardAdd<float>(a, shared).run(parallel);
  else
    FeedForwardAdd<Half>(a, shared).run(parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(feed_forward_add)

void feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel) {
  active_feed_forward_add()(arguments, parallel);
}

}  // namespace reformer
#endif
