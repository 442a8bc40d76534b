// Products with 4-bit weights.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "int4_dot.h"
#include "int8_panels.h"

namespace reformer::REFORMER_ISA {

// A matrix [depth, columns] of integers: those of 4 bits, stored as [columns / 16][depth /
// 8][16][4], times steps, stored as [columns / 16][depth / 32][16]. Such a product has 8 bits, so
// results are those of Int8Panels with the same integers.
template <typename Number>
struct Int4Panels {
  const std::uint8_t* data;
  const std::int8_t* steps;
  std::int64_t depth;

  // Bytes of scratch memory that multiply() takes for so many lines.
  static std::size_t bytes(std::int64_t lines) {
    return panel_bytes(lines) + Int8Panels<Number>::bytes(lines);
  }

  // The same as Int8Panels::multiply().
  template <typename Begin, typename Finish>
  REFORMER_INLINE void multiply(Int8Block<Number> rows, Range lines, Range columns, float* scratch,
                                Begin&& begin, Finish&& finish) const {
    auto* const wide = reinterpret_cast<std::uint8_t*>(scratch);
    float* const rest = scratch + panel_bytes(lines.size()) / sizeof(float);
    // With few rows, wider tiles would not leave enough registers.
    const std::int64_t step = columns_at_once(std::max(rows.count, kFewRows));
    for (std::int64_t column = columns.first; column < columns.last; column += step) {
      const std::int64_t width = std::min(step, columns.last - column);
      const auto start_tile = [&]<int Count, int Vectors>(Floats(&tile)[Count][Vectors],
                                                          std::int64_t row,
                                                          std::int64_t start) REFORMER_LAMBDA {
        begin.template operator()<Count, Vectors>(tile, row, column + start);
      };
      const auto end_tile = [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors],
                                                        std::int64_t row,
                                                        std::int64_t start) REFORMER_LAMBDA {
        finish.template operator()<Count, Vectors>(tile, row, column + start);
      };
      if constexpr (!kIsWide) {
        if (rows.count <= kFewRows) {
          multiply_few(rows, lines, column, width, start_tile, end_tile);
          continue;
        }
      }
      widen(lines, column, width, wide);
      Int8Panels<Number>{wide, lines.size()}.multiply(rows, {0, lines.size()}, {0, width}, rest,
                                                      start_tile, end_tile);
    }
  }

 private:
  static constexpr bool kIsWide = std::is_same_v<Number, float>;
  // So few rows are multiplied with the weights as they are stored. For more rows, the weights
  // become panels of 8 bits first.
  static constexpr std::int64_t kFewRows = 2;

  static std::size_t panel_bytes(std::int64_t lines) {
    return Scratch::bytes_of<std::uint8_t>(columns_at_once(1) * lines);
  }

  // Where the lines of a panel begin in `data` and in `steps`.
  const std::uint8_t* data_of(std::int64_t column, std::int64_t line) const {
    return data + (column / kWeightPanel * depth + line) * kWeightPanel / 2;
  }
  const std::int8_t* steps_of(std::int64_t column, std::int64_t line) const {
    return steps + (column / kWeightPanel * depth + line) * kWeightPanel / kInt4Block;
  }

  // Writes columns as Int8Panels has them.
  void widen(Range lines, std::int64_t column, std::int64_t width, std::uint8_t* to) const {
    constexpr std::int64_t kLine = kWeightPanel * kQuad, kLines = kInt4Block / (2 * kQuad);
    for (const std::int64_t end = column + width; column < end; column += kWeightPanel) {
      const std::uint8_t* from = data_of(column, lines.first);
      const std::int8_t* step = steps_of(column, lines.first);
      for (std::int64_t block = 0; block < lines.size() / kInt4Block; ++block) {
        for (std::int64_t lane = 0; lane < kWeightPanel; lane += kLanes) {
          const Int4Step factor(step + lane);
          for (std::int64_t line = 0; line < kLines; ++line) {
            const Quads both = load_quads(from + line * kLine + lane * kQuad);
            std::uint8_t* const pair = to + 2 * line * kLine + lane * kQuad;
            store_quads(pair, factor.times(both & 15));
            store_quads(pair + kLine, factor.times(both >> 4));
          }
        }
        from += kLines * kLine;
        to += 2 * kLines * kLine;
        step += kWeightPanel;
      }
    }
  }

  template <typename Begin, typename Finish>
  REFORMER_INLINE void multiply_few(Int8Block<Number> rows, Range lines, std::int64_t column,
                                    std::int64_t width, Begin&& begin, Finish&& finish) const {
    for_tiles(rows.count, width,
              [&]<int Count, int Vectors>(std::int64_t row, std::int64_t start) REFORMER_LAMBDA {
                if constexpr (Count <= kFewRows) {
                  const std::uint8_t* first[Vectors];
                  const std::int8_t* step[Vectors];
                  for (int v = 0; v < Vectors; ++v) {
                    const std::int64_t at = column + start + v * kLanes, lane = at % kWeightPanel;
                    first[v] = data_of(at, lines.first) + lane * kQuad;
                    step[v] = steps_of(at, lines.first) + lane;
                  }
                  const Int8Rows<Number> few{rows.data + row * rows.stride, rows.stride,
                                             rows.sums + row, rows.scales + row};
                  Floats products[Count][Vectors];
                  multiply_int4(products, few, first, step, lines.size() / kInt4Block);
                  Floats tile[Count][Vectors];
                  begin.template operator()<Count, Vectors>(tile, row, start);
                  for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
                    tile[r][v] = products[r][v] + tile[r][v];
                  });
                  finish.template operator()<Count, Vectors>(tile, row, start);
                }
              });
  }
};

}  // namespace reformer::REFORMER_ISA
