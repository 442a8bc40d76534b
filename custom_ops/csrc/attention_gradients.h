// The gradients of softmax attention between a block of queries and a few chunks of keys: the
// counterpart of attention.h.
#pragma once

#include <algorithm>

#include "attention.h"

namespace reformer::REFORMER_ISA {

// Block sizes: the scores of kQueries queries and kKeys keys fit in the first-level cache.
constexpr std::int64_t kQueries = 64;
constexpr std::int64_t kKeys = 64;
static_assert(kQueries % kPanel == 0);

// The keys and values of one chunk, and the partial sums of their gradients. Rows are padded_dim()
// floats, zeros past head_dim.
struct KeyRows {
  std::int64_t chunk = -1;
  float *keys, *values;
  float *key_sums, *value_sums;  // key_sums: gradients of the keys before scaling
  float* scale;                  // factor of each key's scores; room for padded_keys()
  std::int32_t* reach;           // first position whose query sees the key
  std::int32_t* position;
  std::uint32_t first_column;  // dropout's column of position 0
  bool all_valid;              // no key is padding

  static std::size_t bytes(const ChunkShape& shape) {
    return 4 * Scratch::bytes_of<float>(shape.keys * shape.padded_dim()) +
           Scratch::bytes_of<float>(shape.padded_keys()) +
           2 * Scratch::bytes_of<std::int32_t>(shape.keys);
  }

  void take(const ChunkShape& shape, Scratch& scratch) {
    chunk = -1;
    for (float** rows : {&keys, &values, &key_sums, &value_sums})
      *rows = scratch.take<float>(shape.keys * shape.padded_dim());
    scale = scratch.take<float>(shape.padded_keys());
    reach = scratch.take<std::int32_t>(shape.keys);
    position = scratch.take<std::int32_t>(shape.keys);
  }
};

// The queries of one chunk, and the gradients of their outputs.
struct QueryRows {
  const float* queries;    // [query][padded_dim], zeros past head_dim
  float* gradients;        // the same
  float* lse;              // [query]
  float* delta;            // [query] gradient . output
  std::int32_t* position;  // [query]
  float* copies;           // storage of `queries` if they are not the keys

  static std::size_t bytes(const ChunkShape& shape, bool shared) {
    return (shared ? 1 : 2) * Scratch::bytes_of<float>(shape.keys * shape.padded_dim()) +
           2 * Scratch::bytes_of<float>(shape.keys) + Scratch::bytes_of<std::int32_t>(shape.keys);
  }

  void take(const ChunkShape& shape, bool shared, Scratch& scratch) {
    gradients = scratch.take<float>(shape.keys * shape.padded_dim());
    lse = scratch.take<float>(shape.keys);
    delta = scratch.take<float>(shape.keys);
    position = scratch.take<std::int32_t>(shape.keys);
    copies = shared ? nullptr : scratch.take<float>(shape.keys * shape.padded_dim());
  }
};

// Gradients for up to kQueries queries of a chunk and a few chunks of keys, one chunk after
// another. Score matrices are [key][query], so that each lane of a vector belongs to one query (in
// lse, delta and position).
class AttentionGradients {
 public:
  static std::size_t bytes(const ChunkShape& shape) {
    return 2 * Scratch::bytes_of<float>(kQueries * shape.head_dim) +
           Scratch::bytes_of<float>(kQueries * shape.padded_dim()) +
           2 * Scratch::bytes_of<float>(kKeys * kQueries) + 2 * Scratch::bytes_of<float>(kQueries) +
           2 * Scratch::bytes_of<std::int32_t>(kQueries) +
           Scratch::bytes_of<std::uint32_t>(kQueries);
  }

  // `dropout` applies to the probabilities; its rows are the positions of the queries.
  AttentionGradients(const ChunkShape& shape, const Dropout& dropout, Scratch& scratch)
      : shape_(shape), dropout_(dropout), dims_(shape.padded_dim()) {
    queries_ = scratch.take<float>(kQueries * shape.head_dim);
    gradients_ = scratch.take<float>(kQueries * shape.head_dim);
    query_sums_ = scratch.take<float>(kQueries * dims_);
    weights_ = scratch.take<float>(kKeys * kQueries);
    score_gradients_ = scratch.take<float>(kKeys * kQueries);
    lse_ = scratch.take<float>(kQueries);
    delta_ = scratch.take<float>(kQueries);
    limit_ = scratch.take<std::int32_t>(kQueries);
    position_ = scratch.take<std::int32_t>(kQueries);
    row_keys_ = scratch.take<std::uint32_t>(kQueries);
  }

  // Starts with `count` queries from `first` on.
  void start(const QueryRows& rows, std::int64_t first, std::int64_t count, bool causal) {
    rows_ = &rows;
    first_ = first;
    count_ = count;
    for (std::int64_t i = 0; i < round_up(count, kLanes); ++i) {
      const bool there = i < count;
      lse_[i] = there ? rows.lse[first + i] : -kAbsent;  // gives weights of 0
      delta_[i] = there ? rows.delta[first + i] : 0.0f;
      position_[i] = there ? rows.position[first + i] : -1;
      limit_[i] = causal ? position_[i] : kNever - 1;
      row_keys_[i] = dropout_.row_key(position_[i]);
    }
    const auto transposed = [&](const float* from, float* to) {
      transpose_rows(
          count, shape_.head_dim, [&](std::int64_t i) { return from + (first + i) * dims_; }, to,
          nullptr);
    };
    transposed(rows.queries, queries_);
    transposed(rows.gradients, gradients_);
    std::fill_n(query_sums_, count * dims_, 0.0f);
  }

  // Adds the gradients that come from these queries and the keys of one chunk. With `diagonal`,
  // query i of the chunk sees no key after key i.
  template <bool Shared>
  void add(KeyRows& keys, bool diagonal) {
    const std::int64_t end = diagonal ? std::min(first_ + count_, shape_.keys) : shape_.keys;
    for (std::int64_t key = 0; key < end; key += kKeys) {
      const Part part{keys, key, std::min(kKeys, end - key), diagonal ? key - first_ : -kKeys};
      if (part.seen_from(part.count - 1) > 0)
        std::fill_n(score_gradients_, part.count * kQueries, 0.0f);
      weigh<Shared>(part);
      if (dropout_.drops())
        differentiate<Shared, true>(part);
      else
        differentiate<Shared, false>(part);
      add_to_keys(part, weights_, rows_->gradients, keys.value_sums);
      add_to_keys(part, score_gradients_, rows_->queries, keys.key_sums);
      add_to_queries(part);
    }
  }

  // The gradient of query `first + i`: padded_dim() floats.
  const float* query_gradient(std::int64_t i) const { return query_sums_ + i * dims_; }

 private:
  // Keys of a chunk: `count` from `first` on. If `diagonal + i` is positive, the queries before it
  // do not see key i.
  struct Part {
    KeyRows& keys;
    std::int64_t first, count, diagonal;

    // The first query that sees keys from `key` on, rounded down to a whole vector.
    std::int64_t seen_from(std::int64_t key) const {
      return std::max<std::int64_t>(diagonal + key, 0) / kLanes * kLanes;
    }
  };

  // Calls function.operator()<Rows, Vectors>(tile, key, column) for tiles of keys and queries: rows
  // of the keys times panels of the queries.
  template <typename Function>
  REFORMER_INLINE void for_score_tiles(const Part& part, const float* key_rows,
                                       const float* query_panels, Function&& function) {
    const std::int64_t columns = round_up(count_, kLanes);
    for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, columns - panel);
      for_row_tiles(part.count, [&]<int Rows>(std::int64_t key) REFORMER_LAMBDA {
        const std::int64_t skipped = std::max<std::int64_t>(part.seen_from(key) - panel, 0);
        if (skipped >= width) return;
        const float* rows[Rows];
        for (int r = 0; r < Rows; ++r) rows[r] = key_rows + (part.first + key + r) * dims_;
        with_vectors((width - skipped) / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          Floats tile[Rows][Vectors] = {};
          multiply<Rows, Vectors>(tile, rows, query_panels + panel * shape_.head_dim + skipped,
                                  width, shape_.head_dim);
          function.template operator()<Rows, Vectors>(tile, key, panel + skipped);
        });
      });
    }
  }

  // weights_ = exp(score - lse)
  template <bool Shared>
  void weigh(const Part& part) {
    for_score_tiles(part, part.keys.keys, queries_,
                    [&]<int Rows, int Vectors>(const Floats(&tile)[Rows][Vectors], std::int64_t key,
                                               std::int64_t column) REFORMER_LAMBDA {
                      const KeyRows& keys = part.keys;
                      const std::int64_t first = part.first + key;
#pragma GCC unroll 4
                      for (int v = 0; v < Vectors; ++v) {
                        const std::int64_t query = column + v * kLanes;
                        const Floats lse = load(lse_ + query);
                        const Ints limit = load(limit_ + query);
                        Ints position;
                        if constexpr (Shared) position = load(position_ + query);
#pragma GCC unroll 8
                        for (int r = 0; r < Rows; ++r) {
                          Floats x = tile[r][v] * broadcast(keys.scale[first + r]);
                          x = broadcast(keys.reach[first + r]) > limit ? broadcast(kMasked) : x;
                          if constexpr (Shared)
                            x = broadcast(keys.position[first + r]) == position ? broadcast(kSelf)
                                                                                : x;
                          store(weights_ + (key + r) * kQueries + query, exp_of_negative(x - lse));
                        }
                      }
                    });
  }

  // score_gradients_ = weight * (gradient . value - delta) * scale of the key; 0 if the score is a
  // constant. With Drops, dropout applies to gradient . value, and then to weights_.
  template <bool Shared, bool Drops>
  void differentiate(const Part& part) {
    for_score_tiles(part, part.keys.values, gradients_,
                    [&]<int Rows, int Vectors>(const Floats(&tile)[Rows][Vectors], std::int64_t key,
                                               std::int64_t column) REFORMER_LAMBDA {
                      const KeyRows& keys = part.keys;
                      const std::int64_t first = part.first + key;
#pragma GCC unroll 4
                      for (int v = 0; v < Vectors; ++v) {
                        const std::int64_t query = column + v * kLanes;
                        const Floats delta = load(delta_ + query);
                        const Ints limit = load(limit_ + query);
                        Ints position;
                        if constexpr (Shared) position = load(position_ + query);
                        Bits row_key;
                        if constexpr (Drops) row_key = load(row_keys_ + query);
#pragma GCC unroll 8
                        for (int r = 0; r < Rows; ++r) {
                          const std::int64_t place = (key + r) * kQueries + query;
                          const Floats weight = load(weights_ + place);
                          Floats weight_gradient = tile[r][v];
                          if constexpr (Drops) {
                            const Bits column =
                                broadcast(keys.first_column + keys.position[first + r]);
                            const auto kept = dropout_.keeps(row_key, column);
                            weight_gradient = kept ? weight_gradient * dropout_.scale : Floats{};
                            store(weights_ + place, kept ? weight * dropout_.scale : Floats{});
                          }
                          Floats x = weight * (weight_gradient - delta) * keys.scale[first + r];
                          x = broadcast(keys.reach[first + r]) > limit ? Floats{} : x;
                          if constexpr (Shared)
                            x = broadcast(keys.position[first + r]) == position ? Floats{} : x;
                          store(score_gradients_ + place, x);
                        }
                      }
                    });
  }

  // sums += matrix [key][query] times the rows of the queries
  void add_to_keys(const Part& part, const float* matrix, const float* rows, float* sums) {
    for (std::int64_t panel = 0; panel < dims_; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, dims_ - panel);
      for_row_tiles(part.count, [&]<int Rows>(std::int64_t key) REFORMER_LAMBDA {
        const std::int64_t skipped = part.seen_from(key);
        if (skipped >= count_) return;
        with_vectors(width / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          float* to = sums + (part.first + key) * dims_ + panel;
          const float* factors[Rows];
          Floats tile[Rows][Vectors];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) {
            factors[r] = matrix + (key + r) * kQueries + skipped;
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) tile[r][v] = load(to + r * dims_ + v * kLanes);
          }
          multiply<Rows, Vectors>(tile, factors, rows + (first_ + skipped) * dims_ + panel, dims_,
                                  count_ - skipped);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) store(to + r * dims_ + v * kLanes, tile[r][v]);
        });
      });
    }
  }

  // query_sums_ += the transpose of score_gradients_ times the rows of the keys
  void add_to_queries(const Part& part) {
    for (std::int64_t panel = 0; panel < dims_; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, dims_ - panel);
      for_row_tiles(count_, [&]<int Rows>(std::int64_t query) REFORMER_LAMBDA {
        const std::int64_t seen = std::min(part.count, query + Rows - part.diagonal);
        if (seen <= 0) return;
        with_vectors(width / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          float* to = query_sums_ + query * dims_ + panel;
          Floats tile[Rows][Vectors];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) tile[r][v] = load(to + r * dims_ + v * kLanes);
          multiply_transposed<Rows, Vectors>(tile, score_gradients_ + query, kQueries,
                                             part.keys.keys + part.first * dims_ + panel, dims_,
                                             seen);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < Vectors; ++v) store(to + r * dims_ + v * kLanes, tile[r][v]);
        });
      });
    }
  }

  ChunkShape shape_;
  Dropout dropout_;
  std::int64_t dims_;
  const QueryRows* rows_ = nullptr;
  std::int64_t first_ = 0, count_ = 0;
  float *queries_, *gradients_;  // transposed, in panels
  float* query_sums_;
  float *weights_, *score_gradients_;  // [kKeys][kQueries]
  float *lse_, *delta_;
  std::int32_t *limit_, *position_;
  std::uint32_t* row_keys_;
};

}  // namespace reformer::REFORMER_ISA
