// Softmax attention of a block of queries to a few chunks of keys: the common core of both
// attention operators.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "attention_scores.h"
#include "dropout.h"
#include "matmul.h"
#include "prefetch.h"
#include "scratch.h"
#include "storage.h"

namespace reformer::REFORMER_ISA {

constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();

// The keys and values of one chunk, packed for the products. Columns are stored in panels of kPanel
// (the last panel may be narrower), so that a product reads memory sequentially.
struct KeyChunk {
  std::int64_t id = -1;    // number of the chunk that is stored here
  float* keys;             // [key panel][head_dim][panel width]
  float* values;           // [value panel][key][panel width]
  float* scale;            // [padded keys] factor of each key's scores
  float* fill;             // [padded keys] score of an unseen key: kMasked; kAbsent past the end
  std::int32_t* reach;     // [padded keys] first position whose query sees the key
  std::int32_t* position;  // [padded keys] position in the sequence; -1 past the end
  std::uint32_t first_column = 0;  // dropout's column of position 0
  bool all_valid = false;          // no key is padding; then a causal kernel may skip later keys
};

// A chunk that a block of queries attends to. With `diagonal`, query i sees no key after key i.
struct KeySpan {
  const KeyChunk* chunk;
  bool diagonal;
};

// Sizes shared by all chunks of one call.
struct ChunkShape {
  std::int64_t keys, head_dim;

  std::int64_t padded_keys() const { return round_up(keys, kLanes); }
  std::int64_t padded_dim() const { return round_up(head_dim, kLanes); }

  std::size_t bytes() const {
    const std::int64_t columns = padded_keys();
    return Scratch::bytes_of<float>(columns * head_dim) +
           Scratch::bytes_of<float>(keys * padded_dim()) + 2 * Scratch::bytes_of<float>(columns) +
           2 * Scratch::bytes_of<std::int32_t>(columns);
  }

  KeyChunk take(Scratch& scratch) const {
    const std::int64_t columns = padded_keys();
    KeyChunk chunk;
    chunk.keys = scratch.take<float>(columns * head_dim);
    chunk.values = scratch.take<float>(keys * padded_dim());
    chunk.scale = scratch.take<float>(columns);
    chunk.fill = scratch.take<float>(columns);
    chunk.reach = scratch.take<std::int32_t>(columns);
    chunk.position = scratch.take<std::int32_t>(columns);
    for (std::int64_t key = 0; key < columns; ++key) {
      chunk.scale[key] = 0.0f;
      chunk.fill[key] = key < keys ? kMasked : kAbsent;
      chunk.reach[key] = kNever;
      chunk.position[key] = -1;
    }
    return chunk;
  }
};

// Calls columns(block, first_row, first_dim, dims) for transposed blocks of kLanes rows: block[i]
// has dimension first_dim + i of all rows, for i < dims; rows from `count` on are 0. row(i) must be
// readable up to the next multiple of kLanes floats. Unless `mean_squares` is null, stores each
// row's mean square there, [count rounded up to kLanes].
template <typename RowOf, typename Columns>
REFORMER_INLINE void transpose_blocks(std::int64_t count, std::int64_t head_dim, RowOf&& row,
                                      float* mean_squares, Columns&& columns) {
  for (std::int64_t first = 0; first < count; first += kLanes) {
    Floats squares = {};
    for (std::int64_t dim = 0; dim < head_dim; dim += kLanes) {
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        block[i] = first + i < count ? load(row(first + i) + dim) : Floats{};
      transpose(block);
      const std::int64_t dims = std::min<std::int64_t>(kLanes, head_dim - dim);
      if (dims == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) squares = block[i] * block[i] + squares;
      } else {
        for (int i = 0; i < dims; ++i) squares = block[i] * block[i] + squares;
      }
      columns(block, first, dim, dims);
    }
    if (mean_squares != nullptr)
      store(mean_squares + first, squares / static_cast<float>(head_dim));
  }
}

// Writes `count` rows as columns, in panels: [column panel][head_dim][panel width].
template <typename RowOf>
inline void transpose_rows(std::int64_t count, std::int64_t head_dim, RowOf&& row, float* panels,
                           float* mean_squares) {
  transpose_blocks(count, head_dim, row, mean_squares,
                   [=](const Floats(&block)[kLanes], std::int64_t column, std::int64_t dim,
                       std::int64_t dims) REFORMER_LAMBDA {
                     const std::int64_t panel = column / kPanel * kPanel;
                     const std::int64_t width =
                         std::min<std::int64_t>(kPanel, round_up(count, kLanes) - panel);
                     float* to = panels + panel * head_dim + (column - panel) + dim * width;
                     if (dims == kLanes) {
#pragma GCC unroll 16
                       for (int i = 0; i < kLanes; ++i) store(to + i * width, block[i]);
                     } else {
                       for (int i = 0; i < dims; ++i) store(to + i * width, block[i]);
                     }
                   });
}

// Transposes rows into the key panels. `rows` must be readable up to padded_dim() floats. Unless
// `mean_squares` is null, stores each key's mean square there, [padded_keys].
inline void pack_keys(const ChunkShape& shape, const float* const* rows, KeyChunk& chunk,
                      float* mean_squares) {
  transpose_rows(
      shape.keys, shape.head_dim, [rows](std::int64_t key) { return rows[key]; }, chunk.keys,
      mean_squares);
}

// Copies one row into the value panels.
template <typename Stored>
inline void pack_value(const ChunkShape& shape, const Stored* row, std::int64_t key,
                       KeyChunk& chunk) {
  const std::int64_t columns = shape.padded_dim();
  for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
    const std::int64_t width = std::min<std::int64_t>(kPanel, columns - panel);
    const std::int64_t count = std::min(width, shape.head_dim - panel);
    float* to = chunk.values + panel * shape.keys + key * width;
    load_row(to, row + panel, count);
    for (std::int64_t i = count; i < width; ++i) to[i] = 0.0f;
  }
}

// A block of queries: rows of head_dim floats, and their positions.
struct QueryBlock {
  const float* const* rows;
  const std::int32_t* positions;
  std::int64_t first, count;  // the block is rows first to first + count - 1 of the chunk
};

// Computes the attention of blocks of queries; holds the scores and results of one block.
class Attention {
 public:
  static std::int64_t rows_for(const ChunkShape& shape, std::int64_t spans) {
    // Scores of one block should stay in the first-level cache.
    const std::int64_t fitting = 8192 / (spans * shape.padded_keys()) / kTileRows * kTileRows;
    return std::min(shape.keys, std::max<std::int64_t>(fitting, 2 * kTileRows));
  }

  static std::size_t bytes(const ChunkShape& shape, std::int64_t spans) {
    const std::int64_t rows = round_up(rows_for(shape, spans), kLanes);
    return Scratch::bytes_of<float>(rows * spans * shape.padded_keys()) +
           Scratch::bytes_of<float>(rows * shape.padded_dim()) +
           2 * Scratch::bytes_of<float>(rows * kLanes) + 2 * Scratch::bytes_of<float>(rows) +
           Scratch::bytes_of<std::int32_t>(rows) + Scratch::bytes_of<const float*>(rows);
  }

  // `prefetch` makes one step for each register tile. `dropout` applies to the probabilities; its
  // rows are the positions of the queries.
  Attention(const ChunkShape& shape, std::int64_t spans, const Dropout& dropout, Scratch& scratch,
            RowPrefetch& prefetch)
      : shape_(shape),
        stride_(spans * shape.padded_keys()),
        dropout_(dropout),
        prefetch_(prefetch) {
    const std::int64_t rows = round_up(rows_for(shape, spans), kLanes);
    scores_ = scratch.take<float>(rows * stride_);
    results_ = scratch.take<float>(rows * shape.padded_dim());
    row_tops_ = scratch.take<float>(rows * kLanes);
    row_sums_ = scratch.take<float>(rows * kLanes);
    tops_ = scratch.take<float>(rows);
    sums_ = scratch.take<float>(rows);
    limits_ = scratch.take<std::int32_t>(rows);
    score_rows_ = scratch.take<const float*>(rows);
    for (std::int64_t row = 0; row < rows; ++row) score_rows_[row] = scores_ + row * stride_;
  }

  // Approximate number of register tiles for all queries of a chunk.
  static std::int64_t tiles(const ChunkShape& shape, std::int64_t spans) {
    const std::int64_t key_panels = round_up(shape.keys, kPanel) / kPanel;
    const std::int64_t dim_panels = round_up(shape.head_dim, kPanel) / kPanel;
    return (shape.keys + kTileRows - 1) / kTileRows * (spans * key_panels + dim_panels);
  }

  // Sets result(i) to the sum of exp(score - top(i)) * value after dropout, and sums(i) to the sum
  // of exp(score - top(i)) before dropout. With Shared, a query's score for itself is kSelf.
  template <bool Shared>
  void attend(const QueryBlock& queries, const KeySpan* spans, std::int64_t num_spans,
              bool causal) {
    for (std::int64_t row = 0; row < queries.count; ++row) {
      limits_[row] = causal ? queries.positions[row] : kNever - 1;
      store(row_tops_ + row * kLanes, broadcast(kAbsent));
    }
    for (std::int64_t span = 0; span < num_spans; ++span)
      score<Shared>(queries, spans[span], span * shape_.padded_keys());
    if (dropout_.drops())
      exponentiate<true>(queries, spans, num_spans);
    else
      exponentiate<false>(queries, spans, num_spans);
    sum_values(queries, spans, num_spans);
  }

  const float* result(std::int64_t row) const { return results_ + row * shape_.padded_dim(); }
  // The arrays of tops() and sums() are readable and writable up to the next multiple of kLanes.
  float* tops() { return tops_; }
  float* sums() { return sums_; }

 private:
  // The number of keys of a span that the queries up to row `last` of the chunk see.
  std::int64_t visible(const KeySpan& span, std::int64_t last) const {
    return span.diagonal ? std::min(last + 1, shape_.keys) : shape_.keys;
  }

  template <bool Shared>
  void score(const QueryBlock& queries, const KeySpan& span, std::int64_t column) {
    const KeyChunk& chunk = *span.chunk;
    const std::int64_t columns = shape_.padded_keys();
    for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, columns - panel);
      const float* keys = chunk.keys + panel * shape_.head_dim;
      for_row_tiles(queries.count, [&]<int Rows>(std::int64_t first) REFORMER_LAMBDA {
        const std::int64_t seen = visible(span, queries.first + first + Rows - 1) - panel;
        if (seen <= 0) return;
        const std::int64_t vectors = std::min(width, round_up(seen, kLanes)) / kLanes;
        with_vectors(vectors, [&]<int Vectors>() REFORMER_LAMBDA {
          prefetch_.step();
          Floats tile[Rows][Vectors] = {};
          multiply<Rows, Vectors>(tile, queries.rows + first, keys, width, shape_.head_dim);
          Floats top[Rows];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) top[r] = load(row_tops_ + (first + r) * kLanes);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) {
            const std::int64_t key = panel + v * kLanes;
            const Floats scale = load(chunk.scale + key), fill = load(chunk.fill + key);
            const Ints reach = load(chunk.reach + key);
            Ints position;
            if constexpr (Shared) position = load(chunk.position + key);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
              Floats x = tile[r][v] * scale;
              x = reach > broadcast(limits_[first + r]) ? fill : x;
              if constexpr (Shared)
                x = position == broadcast(queries.positions[first + r]) ? broadcast(kSelf) : x;
              store(scores_ + (first + r) * stride_ + column + key, x);
              top[r] = maximum(top[r], x);
            }
          }
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) store(row_tops_ + (first + r) * kLanes, top[r]);
        });
      });
    }
  }

  // Replaces each score by exp(score - top). With Drops, dropout then applies to the result.
  // Reduces tops and sums of kLanes rows at once.
  template <bool Drops>
  void exponentiate(const QueryBlock& queries, const KeySpan* spans, std::int64_t num_spans) {
    const std::int64_t columns = shape_.padded_keys();
    fold_rows(row_tops_, tops_, queries.count, [](Floats a, Floats b) { return maximum(a, b); });
    for_row_tiles(queries.count, [&]<int Rows>(std::int64_t first) REFORMER_LAMBDA {
      for (int r = 0; r < Rows; ++r) {
        const Floats top = broadcast(tops_[first + r]);
        Floats total = {};
        Bits row_key;
        if constexpr (Drops) row_key = broadcast(dropout_.row_key(queries.positions[first + r]));
        for (std::int64_t span = 0; span < num_spans; ++span) {
          const KeyChunk& chunk = *spans[span].chunk;
          float* scores = scores_ + (first + r) * stride_ + span * columns;
          const std::int64_t seen = visible(spans[span], queries.first + first + Rows - 1);
          for (std::int64_t key = 0; key < seen; key += kLanes) {
            Floats weight = exp_of_negative(load(scores + key) - top);
            total = total + weight;
            if constexpr (Drops) {
              const Bits column =
                  reinterpret_cast<Bits>(load(chunk.position + key)) + chunk.first_column;
              weight = dropout_.keeps(row_key, column) ? weight * dropout_.scale : Floats{};
            }
            store(scores + key, weight);
          }
        }
        store(row_sums_ + (first + r) * kLanes, total);
      }
    });
    fold_rows(row_sums_, sums_, queries.count, [](Floats a, Floats b) { return a + b; });
  }

  void sum_values(const QueryBlock& queries, const KeySpan* spans, std::int64_t num_spans) {
    const std::int64_t dims = shape_.padded_dim(), columns = shape_.padded_keys();
    for (std::int64_t panel = 0; panel < dims; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, dims - panel);
      for_row_tiles(queries.count, [&]<int Rows>(std::int64_t first) REFORMER_LAMBDA {
        with_vectors(width / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          prefetch_.step();
          Floats tile[Rows][Vectors] = {};
          for (std::int64_t span = 0; span < num_spans; ++span) {
            const float* rows[Rows];
            for (int r = 0; r < Rows; ++r) rows[r] = score_rows_[first + r] + span * columns;
            const float* values = spans[span].chunk->values + panel * shape_.keys;
            const std::int64_t seen = visible(spans[span], queries.first + first + Rows - 1);
            multiply<Rows, Vectors>(tile, rows, values, width, seen);
          }
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v)
              store(results_ + (first + r) * dims + panel + v * kLanes, tile[r][v]);
        });
      });
    }
  }

  // Sets folded[i] to the reduction of the kLanes numbers of row i. It works on transposed rows, so
  // the order is always the same.
  template <typename Operation>
  void fold_rows(const float* rows, float* folded, std::int64_t count, Operation operation) {
    for (std::int64_t row = 0; row < count; row += kLanes) {
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = load(rows + (row + i) * kLanes);
      transpose(block);
#pragma GCC unroll 4
      for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) block[i] = operation(block[i], block[i + half]);
      store(folded + row, block[0]);
    }
  }

  ChunkShape shape_;
  std::int64_t stride_;
  float *scores_, *results_, *row_tops_, *row_sums_, *tops_, *sums_;
  std::int32_t* limits_;
  const float** score_rows_;
  Dropout dropout_;
  RowPrefetch& prefetch_;
};

}  // namespace reformer::REFORMER_ISA
