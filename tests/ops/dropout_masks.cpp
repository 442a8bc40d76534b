// Computes the dropout masks of csrc/dropout.h for one instruction set in the ways that the kernels
// use: by rows, by columns, and element by element.
#include <cstdint>
#include <vector>

#include "dropout.h"
#include "simd.h"

using namespace reformer;
using namespace reformer::REFORMER_ISA;

// Computes the masks of `size` rows and `size` columns, starting at `first_row` and `first_column`.
// `size` is a multiple of kLanes. Each result is [row][column].
extern "C" void dropout_masks(std::int64_t seed, double probability, std::uint64_t first_row,
                              std::uint32_t first_column, std::int64_t size, bool* by_rows,
                              bool* by_columns, bool* one_by_one) {
  const Dropout dropout(seed, probability);
  std::vector<std::uint32_t> keys(size), columns(size);
  for (std::int64_t i = 0; i < size; ++i) {
    keys[i] = dropout.row_key(first_row + i);
    columns[i] = first_column + static_cast<std::uint32_t>(i);
  }
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t from = 0; from < size; from += kLanes) {
      const auto row = dropout.keeps(broadcast(keys[i]), load(columns.data() + from));
      const auto column = dropout.keeps(load(keys.data() + from), broadcast(columns[i]));
      for (int lane = 0; lane < kLanes; ++lane) {
        by_rows[i * size + from + lane] = row[lane] != 0;
        by_columns[(from + lane) * size + i] = column[lane] != 0;
      }
    }
    for (std::int64_t j = 0; j < size; ++j)
      one_by_one[i * size + j] = dropout.keeps(keys[i], columns[j]);
  }
}
