// The common part of the CPU kernels of linear layers with constant weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "layer_norm.h"
#include "parallel.h"
#include "scratch.h"
#include "storage.h"
#include "weight_panels.h"

namespace reformer::REFORMER_ISA {

// Divides the rows of a layer into blocks, and their work into tasks.
class RowBlocks {
 public:
  explicit RowBlocks(std::int64_t rows) : rows_(rows) {
    // If a task is a block: a multiple of kTogether blocks, so that 2, 4 or 8 threads get equally
    // many. No block is much smaller than the others.
    const std::int64_t fewest = (rows + kMostRows - 1) / kMostRows;
    const std::int64_t blocks = are_many() ? round_up(fewest, kTogether) : fewest;
    block_rows_ = round_up((rows + blocks - 1) / blocks, kTileRows);
  }

  // True if a task is a whole block. Otherwise tasks also divide the columns.
  bool are_many() const { return rows_ >= kTogether * kFewestRows; }

  // The rows of the block that begins at row `first`.
  std::int64_t rows_from(std::int64_t first) const { return std::min(block_rows_, rows_ - first); }

  // Calls task(first row) for all blocks.
  template <typename Task>
  void each(const Parallel& parallel, Task&& task) const {
    parallel_for(parallel, count(), [&](std::size_t index) { task(index * block_rows_); });
  }

  // Calls task(first row of a block, rows of this block) for all rows.
  template <typename Task>
  void each_group(const Parallel& parallel, Task&& task) const {
    const std::size_t groups = (std::min(rows_, block_rows_) + kGroupRows - 1) / kGroupRows;
    parallel_for(parallel, count() * groups, [&](std::size_t index) {
      const std::int64_t first = index / groups * block_rows_, row = index % groups * kGroupRows;
      task(first, Range{row, std::min(row + kGroupRows, rows_from(first))});
    });
  }

  // Calls task(first row, columns) for all blocks and parts of a product with a matrix [depth,
  // columns].
  template <typename Task>
  void each_part(const Parallel& parallel, std::int64_t depth, std::int64_t columns,
                 Task&& task) const {
    const std::int64_t rows = std::min(rows_, block_rows_);
    const std::int64_t least = kLeastWork / (rows * depth);
    const std::int64_t width = round_up(
        std::max((columns + kColumnTasks - 1) / kColumnTasks, least), columns_at_once(rows));
    const std::size_t parts = (columns + width - 1) / width;
    parallel_for(parallel, count() * parts, [&](std::size_t index) {
      const std::int64_t column = index % parts * width;
      task(index / parts * block_rows_, Range{column, std::min(columns, column + width)});
    });
  }

 private:
  // Rows of a block. For each block, all weights are read once.
  static constexpr std::int64_t kMostRows = 192, kFewestRows = 48;
  static constexpr std::int64_t kTogether = 8;
  static constexpr std::int64_t kGroupRows = 48;
  // The largest number of tasks for the columns of a block.
  static constexpr std::int64_t kColumnTasks = 16;
  // A task should have at least this many multiplications: fewer are not worth another thread.
  static constexpr std::int64_t kLeastWork = 1 << 16;

  std::int64_t count() const { return (rows_ + block_rows_ - 1) / block_rows_; }

  std::int64_t rows_, block_rows_;
};

// A small tensor as fp32.
template <typename Stored>
const float* widened(const void* stored, std::int64_t count, Scratch& scratch) {
  float* wide = scratch.take<float>(count);
  load_row(wide, static_cast<const Stored*>(stored), count);
  return wide;
}

// Memory of this thread for weights as fp32, if they are stored in another type.
template <typename Weight>
float* wide_weights(std::int64_t lines) {
  static thread_local Scratch scratch;
  scratch.reset(Weight::bytes(lines));
  return scratch.take<float>(0);
}

// Rows of a block in the layout that products read: segments of kSegment columns, one after
// another. So the data of a product stays in the caches, and rows do not compete for the same part
// of a cache.
constexpr std::int64_t kSegment = 256;

struct Segments {
  float* data;
  std::int64_t rows, width;

  // The number of columns of a segment.
  static constexpr std::int64_t kWidth = kSegment;

  static std::size_t row_bytes(std::int64_t width) { return width * sizeof(float); }
  static Segments in(void* memory, std::int64_t rows, std::int64_t width) {
    return {static_cast<float*>(memory), rows, width};
  }

  std::int64_t count() const { return (width + kSegment - 1) / kSegment; }
  Range columns(std::int64_t segment) const {
    return {segment * kSegment, std::min(width, (segment + 1) * kSegment)};
  }
  RowBlock block(std::int64_t segment) const {
    return {at(0, segment * kSegment), rows, columns(segment).size()};
  }
  // Writes one segment of a row.
  void write(std::int64_t row, std::int64_t segment, const float* from) const {
    std::copy_n(from, columns(segment).size(), at(row, segment * kSegment));
  }
  // The address of a column of a row. The next columns of the segment follow it in memory.
  float* at(std::int64_t row, std::int64_t column) const {
    const std::int64_t segment = column / kSegment;
    return data + segment * kSegment * rows + row * columns(segment).size() + column % kSegment;
  }
};

// Calls function(row, column, count) for all parts of the rows that are contiguous in memory.
template <typename Function>
void for_each_piece(const Segments& to, Range columns, Function&& function) {
  for (std::int64_t column = columns.first; column < columns.last;) {
    const std::int64_t end = std::min(columns.last, (column / kSegment + 1) * kSegment);
    for (std::int64_t row = 0; row < to.rows; ++row) function(row, column, end - column);
    column = end;
  }
}

// Copies some rows of a block, which begins at `block`, and converts them to fp32.
template <typename Stored>
void copy_rows(const Stored* block, Range rows, const Segments& to) {
  for (std::int64_t row = rows.first; row < rows.last; ++row)
    for (std::int64_t segment = 0; segment < to.count(); ++segment) {
      const Range columns = to.columns(segment);
      load_row(to.at(row, columns.first), block + row * to.width + columns.first, columns.size());
    }
}

// The layer norm of rows that are stored in any type.
template <typename Stored>
class RowNorm {
 public:
  // Takes bytes(width) from `scratch`.
  RowNorm(const void* rows, const void* weight, const void* bias, std::int64_t width, float epsilon,
          Scratch& scratch)
      : rows_(static_cast<const Stored*>(rows)),
        width_(width),
        norm_(widened<Stored>(weight, width, scratch), widened<Stored>(bias, width, scratch), width,
              epsilon) {}

  static std::size_t bytes(std::int64_t width) { return 2 * Scratch::bytes_of<float>(width); }

  // Writes the norms of some rows of the block that begins at row `first`.
  template <typename Rows>
  void apply(std::int64_t first, Range block_rows, const Rows& to) const {
    static thread_local Scratch scratch;
    constexpr std::int64_t kAtOnce = 4;
    scratch.reset(Scratch::bytes_of<float>(kAtOnce * width_));
    float* few = scratch.take<float>(kAtOnce * width_);
    for (std::int64_t row = block_rows.first; row < block_rows.last; row += kAtOnce) {
      const std::int64_t count = std::min(kAtOnce, block_rows.last - row);
      const Stored* rows = rows_ + (first + row) * width_;
      if constexpr (std::is_same_v<Stored, float>) {
        norm_.apply(rows, count, few);
      } else {
        load_row(few, rows, count * width_);
        norm_.apply(few, count, few);
      }
      for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t segment = 0; segment < to.count(); ++segment)
          to.write(row + i, segment, few + i * width_ + to.columns(segment).first);
    }
  }

 private:
  const Stored* rows_;
  std::int64_t width_;
  LayerNorm norm_;
};

// Calls function(r, v) for all vectors of a tile.
template <typename Tile, typename Function>
REFORMER_INLINE void for_each_vector(Tile&, Function&& function) {
  constexpr int count = std::extent_v<std::remove_reference_t<Tile>, 0>;
  constexpr int vectors = std::extent_v<std::remove_reference_t<Tile>, 1>;
#pragma GCC unroll 8
  for (int r = 0; r < count; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) function(r, v);
}

template <int Count, int Vectors>
REFORMER_INLINE void clear_tile(Floats (&tile)[Count][Vectors]) {
  for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA { tile[r][v] = Floats{}; });
}

template <int Count, int Vectors>
REFORMER_INLINE void load_tile(Floats (&tile)[Count][Vectors], const float* from,
                               std::int64_t stride) {
  for_each_vector(tile, [&](int r, int v)
                            REFORMER_LAMBDA { tile[r][v] = load(from + r * stride + v * kLanes); });
}

template <int Count, int Vectors>
REFORMER_INLINE void store_tile(const Floats (&tile)[Count][Vectors], float* to,
                                std::int64_t stride) {
  for_each_vector(
      tile, [&](int r, int v) REFORMER_LAMBDA { store(to + r * stride + v * kLanes, tile[r][v]); });
}

// Prefetches the memory of a tile, so that it is in the cache when the products are complete.
template <int Count, typename Stored>
REFORMER_INLINE void prefetch_tile(const Stored* from, std::int64_t stride, bool to_write) {
#pragma GCC unroll 8
  for (int r = 0; r < Count; ++r) {
    if (to_write)
      __builtin_prefetch(from + r * stride, 1, 3);
    else
      __builtin_prefetch(from + r * stride, 0, 3);
  }
}

// Multiplies rows with columns of a matrix. Calls finish.operator()<Count, Vectors>(tile, row,
// column) for all complete tiles, and prepare.operator()<Count>(row, column) before the last
// segment of a tile.
template <typename Weight, typename Rows, typename Prepare, typename Finish>
void multiply_segments(const Weight& weight, const Rows& rows, Range columns, Prepare&& prepare,
                       Finish&& finish) {
  static thread_local Scratch scratch;
  scratch.reset(Scratch::bytes_of<float>(rows.rows * kSegment));
  float* const sums = scratch.take<float>(rows.rows * kSegment);  // of earlier segments
  for (std::int64_t first = columns.first; first < columns.last; first += kSegment) {
    const Range part{first, std::min(columns.last, first + kSegment)};
    for (std::int64_t segment = 0; segment < rows.count(); ++segment) {
      const Range lines = rows.columns(segment);
      const bool is_last = lines.last == rows.width;
      weight.multiply(
          rows.block(segment), lines, part, wide_weights<Weight>(lines.size()),
          [&]<int Count, int Vectors>(Floats(&tile)[Count][Vectors], std::int64_t row,
                                      std::int64_t column) REFORMER_LAMBDA {
            if (is_last) prepare.template operator()<Count>(row, column);
            if (segment == 0) return clear_tile(tile);
            load_tile(tile, sums + row * kSegment + column - first, kSegment);
          },
          [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                      std::int64_t column) REFORMER_LAMBDA {
            if (is_last) return finish.template operator()<Count, Vectors>(tile, row, column);
            store_tile(tile, sums + row * kSegment + column - first, kSegment);
          });
    }
  }
}

// Runs a linear layer on rows of `depth` numbers. Calls read(first row, range, rows), which writes
// a range of the rows of a block, and multiply(rows, first row, columns), which multiplies the
// block's rows with a part of the matrix.
template <typename Rows = Segments, typename Read, typename Multiply>
void run_linear(const Parallel& parallel, std::int64_t rows, std::int64_t depth,
                std::int64_t columns, Read&& read, Multiply&& multiply) {
  const RowBlocks blocks(rows);
  if (blocks.are_many()) {
    blocks.each(parallel, [&](std::int64_t first) {
      Scratch& scratch = Scratch::of_this_thread();
      const std::int64_t count = blocks.rows_from(first);
      scratch.reset(count * Rows::row_bytes(depth));
      const Rows block = Rows::in(scratch.take<std::byte>(0), count, depth);
      read(first, Range{0, count}, block);
      multiply(block, first, Range{0, columns});
    });
    return;
  }
  static thread_local Scratch shared;  // the threads that run the tasks use it too
  shared.reset(rows * Rows::row_bytes(depth));
  std::byte* const data = shared.take<std::byte>(0);
  const auto block = [&](std::int64_t first) {
    return Rows::in(data + first * Rows::row_bytes(depth), blocks.rows_from(first), depth);
  };
  blocks.each_group(parallel,
                    [&](std::int64_t first, Range range) { read(first, range, block(first)); });
  blocks.each_part(parallel, depth, columns,
                   [&](std::int64_t first, Range part) { multiply(block(first), first, part); });
}

REFORMER_INLINE void store_vector(float* to, Floats x) { store(to, x); }
REFORMER_INLINE void store_vector(Half* to, Floats x) {
  float wide[kLanes];
  store(wide, x);
  store_row(to, wide, 1.0f, kLanes);
}

// Writes the sum of `x` and the vector at `stored`, added in fp32.
template <typename Stored>
REFORMER_INLINE void store_sum(Stored* to, const Stored* stored, Floats x) {
  float wide[kLanes];
  load_row(wide, stored, kLanes);
  store_vector(to, load(wide) + x);
}
template <>
REFORMER_INLINE void store_sum(float* to, const float* stored, Floats x) {
  store(to, load(stored) + x);
}

}  // namespace reformer::REFORMER_ISA
