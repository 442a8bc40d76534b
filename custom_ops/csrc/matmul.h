// The register tile of all matrix products: a few rows times a panel of columns.
#pragma once

#include "simd.h"

namespace reformer::REFORMER_ISA {

// tile += rows[0..Rows) times panel. Each row has `depth` floats. The panel has `depth` lines,
// `stride` floats apart; the first Vectors * kLanes floats of a line are used.
template <int Rows, int Vectors>
REFORMER_INLINE void multiply(Floats (&tile)[Rows][Vectors], const float* const* rows,
                              const float* panel, std::int64_t stride, std::int64_t depth) {
  const float* row[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) row[r] = rows[r];
  for (std::int64_t k = 0; k < depth; ++k, panel += stride) {
    Floats line[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) line[v] = load(panel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Floats factor = broadcast(row[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) tile[r][v] = factor * line[v] + tile[r][v];
    }
  }
}

// tile += the transpose of `lines` times panel. Both have `depth` lines, `lines_stride` and
// `stride` floats apart; the first Rows numbers of each of `lines` are used.
template <int Rows, int Vectors>
REFORMER_INLINE void multiply_transposed(Floats (&tile)[Rows][Vectors], const float* lines,
                                         std::int64_t lines_stride, const float* panel,
                                         std::int64_t stride, std::int64_t depth) {
  for (std::int64_t k = 0; k < depth; ++k, lines += lines_stride, panel += stride) {
    Floats line[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) line[v] = load(panel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Floats factor = broadcast(lines[r]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) tile[r][v] = factor * line[v] + tile[r][v];
    }
  }
}

// Calls function.operator()<Rows>(first_row) for all of `rows` rows: tiles of kTileRows, then
// smaller tiles.
template <typename Function>
REFORMER_INLINE void for_row_tiles(std::int64_t rows, Function&& function) {
  std::int64_t first = 0;
  for (; first + kTileRows <= rows; first += kTileRows)
    function.template operator()<kTileRows>(first);
  if (first + 4 <= rows) {
    function.template operator()<4>(first);
    first += 4;
  }
  if (first + 2 <= rows) {
    function.template operator()<2>(first);
    first += 2;
  }
  if (first < rows) function.template operator()<1>(first);
}

// Calls function.operator()<Vectors>() for 1 to kPanelVectors vectors.
template <typename Function>
REFORMER_INLINE void with_vectors(std::int64_t vectors, Function&& function) {
  static_assert(kPanelVectors == 2 || kPanelVectors == 4);
  if constexpr (kPanelVectors == 4) {
    if (vectors == 4) return function.template operator()<4>();
    if (vectors == 3) return function.template operator()<3>();
  }
  if (vectors == 2) return function.template operator()<2>();
  function.template operator()<1>();
}

}  // namespace reformer::REFORMER_ISA
