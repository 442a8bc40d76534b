// Products with 8-bit weights, and the rows that are multiplied with them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "int8_dot.h"
#include "layer_norm.h"
#include "linear_layers.h"
#include "weight_panels.h"

namespace reformer::REFORMER_ISA {

// Numbers of a row that are rounded together.
constexpr std::int64_t kInt8Block = 512;

// Rows of one segment as integers from -127 to 127, in the order of place_in_row(). A row is its
// integers times its scale.
template <typename Number>
struct Int8Block {
  const Number* data;
  std::int64_t count, stride;
  const float* scales;
  const std::int32_t* sums;  // of the integers of each row
};

// Rows of integers in segments. `Segments` is the same for rows of floats.
template <typename Number>
class Int8Segments {
 public:
  // The number of columns of a segment.
  static constexpr std::int64_t kWidth = kInt8Block;

  static std::size_t row_bytes(std::int64_t width) {
    return width * sizeof(Number) + count(width) * (sizeof(float) + sizeof(std::int32_t));
  }

  static Int8Segments in(void* memory, std::int64_t rows, std::int64_t width) {
    Int8Segments made;
    made.rows = rows;
    made.width = width;
    made.scales_ = static_cast<float*>(memory);
    made.sums_ = reinterpret_cast<std::int32_t*>(made.scales_ + rows * made.count());
    made.data_ = reinterpret_cast<Number*>(made.sums_ + rows * made.count());
    return made;
  }

  std::int64_t count() const { return count(width); }
  Range columns(std::int64_t segment) const {
    return {segment * kInt8Block, std::min(width, (segment + 1) * kInt8Block)};
  }
  Int8Block<Number> block(std::int64_t segment) const {
    return {data_ + segment * kInt8Block * rows, rows, columns(segment).size(),
            scales_ + segment * rows, sums_ + segment * rows};
  }

  // Writes one segment of a row. docs/ops.md defines the integers.
  void write(std::int64_t row, std::int64_t segment, const float* from) const {
    const std::int64_t size = columns(segment).size();
    Number* to = data_ + segment * kInt8Block * rows + row * size;
    Floats tops{}, check{};
    std::int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      const Floats x = load(from + i);
      tops = maximum(tops, maximum(x, -x));
      check = x * 0.0f + check;  // NaN if a number is infinite or NaN
    }
    float top = 0.0f, rest = sum_of_lanes(check);
    for (int lane = 0; lane < kLanes; ++lane) top = std::max(top, tops[lane]);
    for (std::int64_t last = i; last < size; ++last) {
      top = std::max(top, std::fabs(from[last]));
      rest += from[last] * 0.0f;
    }
    // The numbers are divided by the step, not multiplied by its reciprocal: on some machines the
    // compiler fuses a product with the addition in rounded(), and the result may differ.
    const float step = top < kSmallest ? 1.0f : top / kLargest;
    Ints totals{};
    for (i = 0; i + kLanes <= size; i += kLanes) {
      const Ints whole = rounded(load(from + i) / step);
      totals = totals + whole;
      put(to + i, whole);
    }
    std::int32_t total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += totals[lane];
    for (; i < size; ++i) {
      const std::int32_t whole = rounded(broadcast(from[i] / step))[0];
      total += whole;
      to[place_in_row<Number>(i)] = static_cast<Number>(whole);
    }
    scales_[segment * rows + row] = step + rest;
    sums_[segment * rows + row] = total;
  }

  std::int64_t rows, width;

 private:
  static constexpr float kLargest = 127.0f, kSmallest = 1e-30f;

  static std::int64_t count(std::int64_t width) { return (width + kInt8Block - 1) / kInt8Block; }

  // To the nearest integer, ties to even.
  REFORMER_INLINE static Ints rounded(Floats x) {
    const Floats rounder = broadcast(12582912.0f);  // 1.5 * 2**23
    return reinterpret_cast<Ints>(x + rounder) - reinterpret_cast<Ints>(rounder);
  }

  REFORMER_INLINE static void put(Number* to, Ints x) {
    typedef Number Numbers __attribute__((vector_size(kLanes * sizeof(Number))));
    Ints places;
    for (int lane = 0; lane < kLanes; ++lane) places[lane] = place_in_row<Number>(lane);
    const Numbers numbers = __builtin_convertvector(__builtin_shuffle(x, places), Numbers);
    __builtin_memcpy(to, &numbers, sizeof numbers);
  }

  float* scales_;
  std::int32_t* sums_;
  Number* data_;
};

// Writes some rows of a block, which begins at `block`, as integers.
template <typename Stored, typename Number>
void write_rows(const Stored* block, Range rows, const Int8Segments<Number>& to) {
  for (std::int64_t row = rows.first; row < rows.last; ++row)
    for (std::int64_t segment = 0; segment < to.count(); ++segment) {
      const Range columns = to.columns(segment);
      const Stored* part = block + row * to.width + columns.first;
      if constexpr (std::is_same_v<Stored, float>) {
        to.write(row, segment, part);
      } else {
        float wide[kInt8Block];
        load_row(wide, part, columns.size());
        to.write(row, segment, wide);
      }
    }
}

// The same of rows of floats.
template <typename Number>
void write_rows(const Segments& from, Range rows, const Int8Segments<Number>& to) {
  float wide[kInt8Block];
  for (std::int64_t row = rows.first; row < rows.last; ++row)
    for (std::int64_t segment = 0; segment < to.count(); ++segment) {
      const Range columns = to.columns(segment);
      for (std::int64_t first = columns.first; first < columns.last; first += kSegment)
        std::copy_n(from.at(row, first), std::min(kSegment, columns.last - first),
                    wide + first - columns.first);
      to.write(row, segment, wide);
    }
}

// A matrix [depth, columns] of integers, stored as [columns / 16][depth / 4][16][4] with the zero
// point 128.
template <typename Number>
struct Int8Panels {
  const std::uint8_t* data;
  std::int64_t depth;

  // Bytes of scratch memory that multiply() takes for so many lines.
  static std::size_t bytes(std::int64_t lines) {
    return kIsWide ? Scratch::bytes_of<float>(columns_at_once(1) * lines) : 0;
  }

  // The same as WeightPanels::multiply(), for integers: each tile gets the products of the rows and
  // the integers of the matrix, times the scales of the rows.
  template <typename Begin, typename Finish>
  REFORMER_INLINE void multiply(Int8Block<Number> rows, Range lines, Range columns, float* wide,
                                Begin&& begin, Finish&& finish) const {
    const std::int64_t step = columns_at_once(rows.count);
    for (std::int64_t column = columns.first; column < columns.last; column += step) {
      const std::int64_t width = std::min(step, columns.last - column);
      const std::uint8_t* panels = data + column * depth + lines.first * kWeightPanel;
      if constexpr (kIsWide) widen(panels, lines.size(), width, wide);
      const auto run = [&]<int Count, int Vectors>(std::int64_t row,
                                                   std::int64_t start) REFORMER_LAMBDA {
        Floats products[Count][Vectors];
        const float* scales = rows.scales + row;
        if constexpr (kIsWide) {
          const float* pointers[Count];
          for (int r = 0; r < Count; ++r) pointers[r] = rows.data + (row + r) * rows.stride;
          clear_tile(products);
          multiply_panels<Count, Vectors>(
              products, pointers,
              wide + start / kWeightPanel * lines.size() * kWeightPanel + start % kWeightPanel,
              lines.size() * kWeightPanel, lines.size());
          scale_lines(products, scales);
        } else {
          const std::uint8_t* first[Vectors];
          for (int v = 0; v < Vectors; ++v) {
            const std::int64_t at = start + v * kLanes;
            first[v] =
                panels + at / kWeightPanel * kWeightPanel * depth + at % kWeightPanel * kQuad;
          }
          const Int8Rows<Number> few{rows.data + row * rows.stride, rows.stride, rows.sums + row,
                                     scales};
          multiply_int8(products, few, first, lines.size() / kQuad);
        }
        Floats tile[Count][Vectors];
        begin.template operator()<Count, Vectors>(tile, row, column + start);
        for_each_vector(
            tile, [&](int r, int v) REFORMER_LAMBDA { tile[r][v] = products[r][v] + tile[r][v]; });
        finish.template operator()<Count, Vectors>(tile, row, column + start);
      };
      for_tiles(rows.count, width, run);
    }
  }

 private:
  static constexpr bool kIsWide = std::is_same_v<Number, float>;

  // The integers of the columns as floats, in panels as WeightPanels has them. Products of floats
  // are exact here: a segment's sum is less than 2**24.
  void widen(const std::uint8_t* panels, std::int64_t lines, std::int64_t width,
             float* wide) const {
    for (std::int64_t panel = 0; panel * kWeightPanel < width; ++panel) {
      const std::uint8_t* from = panels + panel * kWeightPanel * depth;
      for (std::int64_t line = 0; line < lines; ++line, wide += kWeightPanel)
        for (std::int64_t column = 0; column < kWeightPanel; ++column)
          wide[column] = static_cast<float>(
              from[(line / kQuad * kWeightPanel + column) * kQuad + line % kQuad] - kZeroPoint);
    }
  }
};

}  // namespace reformer::REFORMER_ISA
