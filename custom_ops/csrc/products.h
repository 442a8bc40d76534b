// Products of many rows with one matrix, and their gradients, built from the register tile.
#pragma once

#include <algorithm>
#include <cstring>

#include "matmul.h"
#include "scratch.h"

namespace reformer::REFORMER_ISA {

// Rows of a task: a multiple of the tile. These rows and their results fit in the second-level
// cache. It is also the number of lines of a panel that fits in the first-level cache.
constexpr std::int64_t kRowBlock = 96;
static_assert(kRowBlock % kTileRows == 0);
// About this many rows are processed before their products are summed: they fit in the last-level
// cache.
constexpr std::int64_t kSpanRows = 2048;
// Rows of the matrix of sums that one task adds to.
constexpr std::int64_t kLeftGroup = 512;

inline std::int64_t blocks_of(std::int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

// Splits rows into spans of about the same size. All spans but the last are whole blocks.
struct RowSpans {
  std::int64_t rows, longest;

  explicit RowSpans(std::int64_t rows) : rows(rows) {
    const std::int64_t spans = (rows + kSpanRows - 1) / kSpanRows;
    longest = round_up((rows + spans - 1) / spans, kRowBlock);
  }

  // Calls function(first, count) for each span.
  template <typename Function>
  void for_each(Function&& function) const {
    for (std::int64_t first = 0; first < rows; first += longest)
      function(first, std::min(longest, rows - first));
  }
};

// A matrix [depth, columns], stored as panels of kPanel columns, padded with zeros:
// [panel][depth][kPanel].
struct Panels {
  float* data;
  std::int64_t depth, columns;

  static std::int64_t count(std::int64_t columns) { return (columns + kPanel - 1) / kPanel; }
  static std::size_t bytes(std::int64_t depth, std::int64_t columns) {
    return Scratch::bytes_of<float>(count(columns) * depth * kPanel);
  }
  static Panels take(std::int64_t depth, std::int64_t columns, Scratch& scratch) {
    return {scratch.take<float>(count(columns) * depth * kPanel), depth, columns};
  }

  std::int64_t count() const { return count(columns); }
  float* panel(std::int64_t index) const { return data + index * depth * kPanel; }
};

// Copies `count` lines of `width` floats, `stride` floats apart.
inline void pack_lines(const float* from, std::int64_t stride, std::int64_t count,
                       std::int64_t width, float* panel) {
  for (std::int64_t line = 0; line < count; ++line, from += stride, panel += kPanel) {
    if (width >= kPanel) {
#pragma GCC unroll 4
      for (int v = 0; v < kPanelVectors; ++v) store(panel + v * kLanes, load(from + v * kLanes));
    } else {
      std::copy_n(from, width, panel);
      std::fill(panel + width, panel + kPanel, 0.0f);
    }
  }
}

// Fills one panel from `matrix`, [depth, columns].
inline void pack_panel(const float* matrix, const Panels& panels, std::int64_t index) {
  const std::int64_t column = index * kPanel;
  pack_lines(matrix + column, panels.columns, panels.depth, panels.columns - column,
             panels.panel(index));
}

// Fills one panel from the transposed matrix, [columns, depth].
inline void pack_transposed_panel(const float* transposed, const Panels& panels,
                                  std::int64_t index) {
  const std::int64_t depth = panels.depth, whole = depth / kLanes * kLanes;
  float* panel = panels.panel(index);
  for (std::int64_t column = 0; column < kPanel; column += kLanes) {
    const std::int64_t first = index * kPanel + column;
    const std::int64_t count = std::min<std::int64_t>(kLanes, panels.columns - first);
    for (std::int64_t k = 0; k < whole; k += kLanes) {
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        block[i] = i < count ? load(transposed + (first + i) * depth + k) : Floats{};
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(panel + (k + i) * kPanel + column, block[i]);
    }
    for (std::int64_t k = whole; k < depth; ++k)
      for (std::int64_t i = 0; i < kLanes; ++i)
        panel[k * kPanel + column + i] = i < count ? transposed[(first + i) * depth + k] : 0.0f;
  }
}

// Writes the first `count` floats of a line of a tile.
template <int Vectors>
REFORMER_INLINE void store_line(float* to, const Floats (&line)[Vectors], std::int64_t count) {
  if (count >= Vectors * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(to + v * kLanes, line[v]);
  } else {
    float copy[Vectors * kLanes];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(copy + v * kLanes, line[v]);
    std::memcpy(to, copy, static_cast<std::size_t>(count) * sizeof(float));
  }
}

// sums[column] += the sum of a column of `count` rows; `columns` is a multiple of kLanes.
inline void add_rows(const float* rows, std::int64_t count, std::int64_t columns, float* sums) {
  for (std::int64_t row = 0; row < count; ++row, rows += columns)
    for (std::int64_t i = 0; i < columns; i += kLanes)
      store(sums + i, load(sums + i) + load(rows + i));
}

// Multiplies `count` rows of panels.depth floats with the panels. Calls finish.operator()<Rows,
// Vectors>(tile, row, column) for every tile of the product.
template <typename Finish>
REFORMER_INLINE void multiply_rows(const float* rows, std::int64_t count, const Panels& panels,
                                   Finish&& finish) {
  for (std::int64_t index = 0; index < panels.count(); ++index) {
    const float* panel = panels.panel(index);
    const std::int64_t column = index * kPanel;
    const std::int64_t width = std::min<std::int64_t>(kPanel, panels.columns - column);
    for_row_tiles(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
      const float* pointers[Rows];
      for (int r = 0; r < Rows; ++r) pointers[r] = rows + (row + r) * panels.depth;
      with_vectors((width + kLanes - 1) / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
        Floats tile[Rows][Vectors] = {};
        multiply<Rows, Vectors>(tile, pointers, panel, kPanel, panels.depth);
        finish.template operator()<Rows, Vectors>(tile, row, column);
      });
    });
  }
}

// Writes the product of `count` rows with the panels, as rows of panels.columns floats.
inline void write_product(const float* rows, std::int64_t count, const Panels& panels, float* to) {
  const std::int64_t columns = panels.columns;
  multiply_rows(rows, count, panels,
                [&]<int Rows, int Vectors>(const Floats(&tile)[Rows][Vectors], std::int64_t row,
                                           std::int64_t column) REFORMER_LAMBDA {
#pragma GCC unroll 8
                  for (int r = 0; r < Rows; ++r)
                    store_line<Vectors>(to + (row + r) * columns + column, tile[r],
                                        columns - column);
                });
}

// Adds left^T right to sums [left_columns, right_columns], in tasks() tasks. Both matrices have the
// same rows; right_columns is a multiple of kLanes. Rows are added in their order, also if they
// come in several calls.
struct TransposedProduct {
  const float* left;
  std::int64_t left_columns;
  const float* right;
  std::int64_t right_columns;
  float* sums;

  std::int64_t left_groups() const { return (left_columns + kLeftGroup - 1) / kLeftGroup; }
  std::int64_t tasks() const { return left_groups() * Panels::count(right_columns); }
  static std::size_t bytes() { return Scratch::bytes_of<float>(kRowBlock * kPanel); }

  void add(std::int64_t count, std::int64_t task, Scratch& scratch) const {
    float* panel = scratch.take<float>(kRowBlock * kPanel);
    const std::int64_t first = task % left_groups() * kLeftGroup;
    const std::int64_t group = std::min(kLeftGroup, left_columns - first);
    const std::int64_t column = task / left_groups() * kPanel;
    const std::int64_t width = std::min<std::int64_t>(kPanel, right_columns - column);
    for (std::int64_t row = 0; row < count; row += kRowBlock) {
      const std::int64_t rows = std::min(kRowBlock, count - row);
      // After this call, the packed lines are in the first-level cache.
      pack_lines(right + row * right_columns + column, right_columns, rows, width, panel);
      const float* factors = left + row * left_columns + first;
      // Meanwhile, prefetch the lines of the next block.
      const float* next = right + (row + kRowBlock) * right_columns + column;
      std::int64_t next_rows = std::min(kRowBlock, count - row - kRowBlock);
      const std::int64_t at_once = kRowBlock * kTileRows / group + 1;
      for_row_tiles(group, [&]<int Rows>(std::int64_t i) REFORMER_LAMBDA {
        for (std::int64_t j = 0; j < at_once && next_rows > 0; ++j, --next_rows) {
          for (std::int64_t c = 0; c < width; c += 16) __builtin_prefetch(next + c, 0, 2);
          next += right_columns;
        }
        with_vectors(width / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          float* to = sums + (first + i) * right_columns + column;
          Floats tile[Rows][Vectors];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v)
              tile[r][v] = load(to + r * right_columns + v * kLanes);
          multiply_transposed<Rows, Vectors>(tile, factors + i, left_columns, panel, kPanel, rows);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v)
              store(to + r * right_columns + v * kLanes, tile[r][v]);
        });
      });
    }
  }
};

}  // namespace reformer::REFORMER_ISA
