// Products with constant weights. The model stores them in the order in which the register tile
// reads them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "matmul.h"
#include "scratch.h"
#include "storage.h"

namespace reformer::REFORMER_ISA {

// Columns of a panel of weights, for every instruction set.
constexpr std::int64_t kWeightPanel = 16;
static_assert(kWeightPanel % kLanes == 0);
// With one row, this many vectors are summed in parallel, because each addition to a vector waits
// for the one before it.
constexpr int kWideVectors = 8;

// tile += `lines` numbers of each row times `lines` lines of the columns that begin at `panel`.
// Panels are `stride` floats apart.
template <int Rows, int Vectors>
REFORMER_INLINE void multiply_panels(Floats (&tile)[Rows][Vectors], const float* const* rows,
                                     const float* panel, std::int64_t stride, std::int64_t lines) {
  const float* row[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) row[r] = rows[r];
  const float* first[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v)
    first[v] = panel + v * kLanes / kWeightPanel * stride + v * kLanes % kWeightPanel;
  for (std::int64_t k = 0; k < lines; ++k) {
    Floats line[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) line[v] = load(first[v] + k * kWeightPanel);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Floats factor = broadcast(row[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) tile[r][v] = factor * line[v] + tile[r][v];
    }
  }
}

// Rows of numbers, `stride` floats apart.
struct RowBlock {
  const float* data;
  std::int64_t count, stride;
};

// A range of a matrix's lines or columns.
struct Range {
  std::int64_t first, last;

  std::int64_t size() const { return last - first; }
};

// The number of columns that are multiplied at once.
constexpr std::int64_t columns_at_once(std::int64_t rows) {
  const std::int64_t columns = std::max<std::int64_t>(kPanel, kWeightPanel);
  return rows == 1 ? std::max<std::int64_t>(columns, kWideVectors * kLanes) : columns;
}

// Calls run.operator()<Rows, Vectors>(row, column) for all tiles of some rows and of `width`
// columns, at most columns_at_once(rows).
template <typename Run>
REFORMER_INLINE void for_tiles(std::int64_t rows, std::int64_t width, Run&& run) {
  if (rows == 1 && width == kWideVectors * kLanes)
    return run.template operator()<1, kWideVectors>(0, 0);
  for (std::int64_t column = 0; column < width; column += kPanel)
    with_vectors(std::min<std::int64_t>(kPanel, width - column) / kLanes,
                 [&]<int Vectors>() REFORMER_LAMBDA {
                   for_row_tiles(rows, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
                     run.template operator()<Rows, Vectors>(row, column);
                   });
                 });
}

// A matrix [depth, columns], stored as [columns / kWeightPanel][depth][kWeightPanel].
template <typename Stored>
struct WeightPanels {
  const Stored* data;
  std::int64_t depth;

  // Bytes of scratch memory that multiply() needs for `lines` lines.
  static std::size_t bytes(std::int64_t lines) {
    return std::is_same_v<Stored, float> ? 0 : Scratch::bytes_of<float>(columns_at_once(1) * lines);
  }

  // Multiplies rows with a part of the matrix; both ends of `columns` are multiples of
  // kWeightPanel. Calls begin.operator()<Rows, Vectors>(tile, row, column), which sets a tile,
  // before its products are added, and then finish, which uses it. `wide` has bytes(lines.size()).
  template <typename Begin, typename Finish>
  REFORMER_INLINE void multiply(RowBlock rows, Range lines, Range columns, float* wide,
                                Begin&& begin, Finish&& finish) const {
    const std::int64_t step = columns_at_once(rows.count);
    // Each tile prefetches this many lines of the next columns.
    const std::int64_t ahead = (lines.size() * kTileRows + rows.count - 1) / rows.count;
    for (std::int64_t column = columns.first; column < columns.last; column += step) {
      const std::int64_t width = std::min(step, columns.last - column);
      const Panel panel = floats(lines, column, width, wide);
      const auto run = [&]<int Count, int Vectors>(std::int64_t row,
                                                   std::int64_t start) REFORMER_LAMBDA {
        const float* pointers[Count];
        for (int r = 0; r < Count; ++r) pointers[r] = rows.data + (row + r) * rows.stride;
        const float* from = panel.data + start / kWeightPanel * panel.stride + start % kWeightPanel;
        if (Count == kTileRows && column + width < columns.last)
          prefetch_lines(lines, column + width, row / kTileRows * ahead, ahead);
        Floats tile[Count][Vectors];
        begin.template operator()<Count, Vectors>(tile, row, column + start);
        multiply_panels<Count, Vectors>(tile, pointers, from, panel.stride, lines.size());
        finish.template operator()<Count, Vectors>(tile, row, column + start);
      };
      for_tiles(rows.count, width, run);
    }
  }

 private:
  struct Panel {
    const float* data;
    std::int64_t stride;
  };

  // Prefetches `count` lines, from line `first` on, of the panel that begins at `column`.
  REFORMER_INLINE void prefetch_lines(Range lines, std::int64_t column, std::int64_t first,
                                      std::int64_t count) const {
    const Stored* panel = data + column * depth + lines.first * kWeightPanel;
    const std::int64_t last = std::min(first + count, lines.size());
    for (std::int64_t line = first; line < last; ++line)
      __builtin_prefetch(panel + line * kWeightPanel, 0, 2);
  }

  // The columns, converted to fp32.
  REFORMER_INLINE Panel floats(Range lines, std::int64_t column, std::int64_t width,
                               float* wide) const {
    const Stored* from = data + column * depth + lines.first * kWeightPanel;
    if constexpr (std::is_same_v<Stored, float>) return {from, depth * kWeightPanel};
    const std::int64_t stride = lines.size() * kWeightPanel;
    for (std::int64_t panel = 0; panel * kWeightPanel < width; ++panel)
      load_row(wide + panel * stride, from + panel * depth * kWeightPanel, stride);
    return {wide, stride};
  }
};

}  // namespace reformer::REFORMER_ISA
