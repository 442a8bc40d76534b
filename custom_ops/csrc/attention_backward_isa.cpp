#include "attention_backward_isa.h"

#include <algorithm>
#include <cmath>

#include "attention.h"

namespace reformer::REFORMER_ISA {
namespace {

constexpr std::int64_t kQueries = 64;  // worked on at a time, so that their scores for
constexpr std::int64_t kKeys = 64;     // so many keys stay in the first-level cache
static_assert(kQueries % kPanel == 0);

float dot(const float* a, const float* b, std::int64_t count) {
  Floats sums = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums = load(a + i) * load(b + i) + sums;
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

void add_row(float* to, const float* row, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] += row[i];
}

// One head of one sequence: where its rows are.
struct Head {
  Head(const AttentionBackwardArguments& a, std::int64_t line)
      : stride(a.heads * a.head_dim),
        start(line / a.heads * a.length * stride + line % a.heads * a.head_dim),
        mask(a.mask + line / a.heads * a.length),
        lse(a.lse + line * a.length),
        order(a.order == nullptr ? nullptr : a.order + line * a.rounds * a.length) {}

  // The position in the sequence that has this place in the ring of chunks.
  std::int32_t position(std::int64_t slot) const {
    return order == nullptr ? static_cast<std::int32_t>(slot) : order[slot];
  }

  template <typename Value>
  Value* row(Value* tensor, std::int64_t position) const {
    return tensor + start + position * stride;
  }

  std::int64_t stride, start;
  const std::uint8_t* mask;
  const float* lse;
  const std::int32_t* order;
};

// The keys and values of one chunk, and what was added up for their gradients so far. Rows are
// padded_dim() floats, zeros past head_dim.
struct KeyRows {
  std::int64_t chunk = -1;
  float *keys, *values;
  float *key_sums, *value_sums;  // of the keys before they are scaled
  float* scale;                  // of a key; room for padded_keys()
  std::int32_t* reach;           // queries at earlier positions do not see the key
  std::int32_t* position;
  bool all_valid;  // no key is padding

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

// The chunks one task looks at, gathered as they are needed and kept while they are looked back on.
// When one goes, its sums go to the gradients or, if it is not the task's own, to the halo.
class KeyWindow {
 public:
  KeyWindow(const BackwardRound& round, std::size_t task, const Head& head, const ChunkShape& shape,
            std::int64_t first, std::int64_t end)
      : round_(round),
        arguments_(*round.arguments),
        head_(head),
        shape_(shape),
        width_(std::min(round.ring.width(), round.ring.count)),
        first_(first),
        end_(end),
        halo_ids_(round.halo_ids + task * round.halo_chunks),
        halo_rows_(round.halo_rows + task * round.halo_chunks * 2 * shape.keys * shape.head_dim) {
    std::fill_n(halo_ids_, round.halo_chunks, -1);
  }

  std::size_t bytes() const {
    return Scratch::bytes_of<KeyRows>(width_) + width_ * KeyRows::bytes(shape_);
  }

  void take(Scratch& scratch) {
    slots_ = scratch.take<KeyRows>(width_);
    for (std::int64_t i = 0; i < width_; ++i) slots_[i].take(shape_, scratch);
  }

  // The keys of chunk `id`, while the queries of chunk `seen_by` are worked on.
  KeyRows& get(std::int64_t id, std::int64_t seen_by) {
    KeyRows* free_slot = nullptr;
    for (std::int64_t i = 0; i < width_; ++i) {
      if (slots_[i].chunk == id) return slots_[i];
      if (slots_[i].chunk < 0 || !round_.ring.sees(seen_by, slots_[i].chunk))
        free_slot = &slots_[i];
    }
    flush(*free_slot);
    gather(*free_slot, id);
    return *free_slot;
  }

  void flush_all() {
    for (std::int64_t i = 0; i < width_; ++i) flush(slots_[i]);
  }

 private:
  void gather(KeyRows& rows, std::int64_t id) {
    const std::int64_t dims = shape_.padded_dim();
    const float root_dim = std::sqrt(static_cast<float>(shape_.head_dim));
    rows.chunk = id;
    rows.all_valid = true;
    for (std::int64_t key = 0; key < shape_.keys; ++key) {
      const std::int32_t position = head_.position(id * shape_.keys + key);
      float *to_key = rows.keys + key * dims, *to_value = rows.values + key * dims;
      load_row(to_key, head_.row(arguments_.key, position), shape_.head_dim);
      load_row(to_value, head_.row(arguments_.value, position), shape_.head_dim);
      std::fill(to_key + shape_.head_dim, to_key + dims, 0.0f);
      std::fill(to_value + shape_.head_dim, to_value + dims, 0.0f);
      rows.position[key] = position;
      rows.reach[key] = head_.mask[position] ? position : kNever;
      rows.all_valid = rows.all_valid && head_.mask[position];
    }
    for (std::int64_t key = 0; key < shape_.keys; ++key) rows.scale[key] = 1.0f / root_dim;
    if (arguments_.shared) {
      // To the last bit as in the forward pass: scores minus its logsumexp tell every difference.
      transpose_blocks(
          shape_.keys, shape_.head_dim, [&](std::int64_t key) { return rows.keys + key * dims; },
          rows.scale, [](auto&&...) REFORMER_LAMBDA {});
      for (std::int64_t key = 0; key < shape_.keys; ++key)
        rows.scale[key] = 1.0f / (std::sqrt(rows.scale[key] + 1e-6f) * root_dim);
    }
    std::fill_n(rows.key_sums, shape_.keys * dims, 0.0f);
    std::fill_n(rows.value_sums, shape_.keys * dims, 0.0f);
  }

  void flush(KeyRows& rows) {
    if (rows.chunk < 0) return;
    const std::int64_t dims = shape_.padded_dim(), count = shape_.head_dim;
    if (arguments_.shared) {
      // A key is k = scale * q. With `s` the sum of score gradients times queries and scale, q gets
      // s - q (s . q) scale^2: what s has along q only changes the norm, which k does not have.
      for (std::int64_t key = 0; key < shape_.keys; ++key) {
        const float* query = rows.keys + key * dims;
        float* sum = rows.key_sums + key * dims;
        const float along = dot(sum, query, dims) * rows.scale[key] * rows.scale[key];
        for (std::int64_t dim = 0; dim < count; ++dim) sum[dim] -= query[dim] * along;
      }
    }
    float* halo = nullptr;
    bool fresh = false;
    if (rows.chunk < first_ || rows.chunk >= end_) halo = halo_of(rows.chunk, fresh);
    for (std::int64_t key = 0; key < shape_.keys; ++key) {
      const float *key_sum = rows.key_sums + key * dims, *value_sum = rows.value_sums + key * dims;
      if (halo == nullptr) {
        add_row(head_.row(arguments_.key_gradient, rows.position[key]), key_sum, count);
        add_row(head_.row(arguments_.value_gradient, rows.position[key]), value_sum, count);
        continue;
      }
      float *to_key = halo + key * count, *to_value = to_key + shape_.keys * count;
      if (fresh) {
        std::copy_n(key_sum, count, to_key);
        std::copy_n(value_sum, count, to_value);
      } else {
        add_row(to_key, key_sum, count);
        add_row(to_value, value_sum, count);
      }
    }
    rows.chunk = -1;
  }

  // Where the halo has, or may have, the rows of a chunk.
  float* halo_of(std::int64_t chunk, bool& fresh) {
    std::int64_t i = 0;
    while (halo_ids_[i] >= 0 && halo_ids_[i] != chunk) ++i;
    fresh = halo_ids_[i] < 0;
    halo_ids_[i] = chunk;
    return halo_rows_ + i * 2 * shape_.keys * shape_.head_dim;
  }

  const BackwardRound& round_;
  const AttentionBackwardArguments& arguments_;
  const Head& head_;
  ChunkShape shape_;
  std::int64_t width_, first_, end_;
  std::int64_t* halo_ids_;
  float* halo_rows_;
  KeyRows* slots_ = nullptr;
};

// The queries of one chunk with the gradients for their outputs.
struct QueryRows {
  const float* queries;    // [query][padded_dim], zeros past head_dim
  float* gradients;        // the same
  float* lse;              // [query]
  float* delta;            // [query] gradient . output
  std::int32_t* position;  // [query]
  float* copies;           // room for `queries` where they are no keys

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

  void gather(const AttentionBackwardArguments& a, const Head& head, const ChunkShape& shape,
              std::int64_t chunk, const KeyRows& own) {
    const std::int64_t dims = shape.padded_dim();
    queries = copies == nullptr ? own.keys : copies;
    for (std::int64_t i = 0; i < shape.keys; ++i) {
      position[i] = head.position(chunk * shape.keys + i);
      lse[i] = head.lse[position[i]];
      float* gradient = gradients + i * dims;
      load_row(gradient, head.row(a.gradient, position[i]), shape.head_dim);
      std::fill(gradient + shape.head_dim, gradient + dims, 0.0f);
      delta[i] = dot(gradient, head.row(a.output, position[i]), shape.head_dim);
      if (copies == nullptr) continue;
      float* copy = copies + i * dims;
      load_row(copy, head.row(a.query, position[i]), shape.head_dim);
      std::fill(copy + shape.head_dim, copy + dims, 0.0f);
    }
  }
};

// Up to kQueries queries of a chunk against a few chunks of keys, one after another. Score matrices
// are [key][query], so that what a query brings along (lse, delta, how far it sees) is a vector.
class Backward {
 public:
  static std::size_t bytes(const ChunkShape& shape) {
    return 2 * Scratch::bytes_of<float>(kQueries * shape.head_dim) +
           Scratch::bytes_of<float>(kQueries * shape.padded_dim()) +
           2 * Scratch::bytes_of<float>(kKeys * kQueries) + 2 * Scratch::bytes_of<float>(kQueries) +
           2 * Scratch::bytes_of<std::int32_t>(kQueries);
  }

  Backward(const ChunkShape& shape, Scratch& scratch) : shape_(shape), dims_(shape.padded_dim()) {
    queries_ = scratch.take<float>(kQueries * shape.head_dim);
    gradients_ = scratch.take<float>(kQueries * shape.head_dim);
    query_sums_ = scratch.take<float>(kQueries * dims_);
    weights_ = scratch.take<float>(kKeys * kQueries);
    score_gradients_ = scratch.take<float>(kKeys * kQueries);
    lse_ = scratch.take<float>(kQueries);
    delta_ = scratch.take<float>(kQueries);
    limit_ = scratch.take<std::int32_t>(kQueries);
    position_ = scratch.take<std::int32_t>(kQueries);
  }

  // Turns to the queries from `first` on.
  void start(const QueryRows& rows, std::int64_t first, std::int64_t count, bool causal) {
    rows_ = &rows;
    first_ = first;
    count_ = count;
    for (std::int64_t i = 0; i < round_up(count, kLanes); ++i) {
      const bool there = i < count;
      lse_[i] = there ? rows.lse[first + i] : -kAbsent;  // next to it all weights are 0
      delta_[i] = there ? rows.delta[first + i] : 0.0f;
      position_[i] = there ? rows.position[first + i] : -1;
      limit_[i] = causal ? position_[i] : kNever - 1;
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

  // Adds what the queries and the keys of one chunk are to each other. On the diagonal, query i of
  // the chunk sees no key after key i.
  template <bool Shared>
  void add(KeyRows& keys, bool diagonal) {
    const std::int64_t end = diagonal ? std::min(first_ + count_, shape_.keys) : shape_.keys;
    for (std::int64_t key = 0; key < end; key += kKeys) {
      const Part part{keys, key, std::min(kKeys, end - key), diagonal ? key - first_ : -kKeys};
      if (part.seen_from(part.count - 1) > 0)
        std::fill_n(score_gradients_, part.count * kQueries, 0.0f);
      weigh<Shared>(part);
      differentiate<Shared>(part);
      add_to_keys(part, weights_, rows_->gradients, keys.value_sums);
      add_to_keys(part, score_gradients_, rows_->queries, keys.key_sums);
      add_to_queries(part);
    }
  }

  // The gradient of query `first + i`: padded_dim() floats.
  const float* query_gradient(std::int64_t i) const { return query_sums_ + i * dims_; }

 private:
  // Some keys of a chunk: `count` from `first` on. Key i is not seen by queries before
  // `diagonal + i`, if that is more than 0.
  struct Part {
    KeyRows& keys;
    std::int64_t first, count, diagonal;

    // The first query to look at for the keys from `key` on, down to a whole vector.
    std::int64_t seen_from(std::int64_t key) const {
      return std::max<std::int64_t>(diagonal + key, 0) / kLanes * kLanes;
    }
  };

  // Calls function.operator()<Rows, Vectors>(key, column, line, stride) for tiles of keys and
  // queries; `line` is what to add to the panels for queries.
  template <typename Function>
  REFORMER_INLINE void for_score_tiles(const Part& part, Function&& function) {
    const std::int64_t columns = round_up(count_, kLanes);
    for (std::int64_t panel = 0; panel < columns; panel += kPanel) {
      const std::int64_t width = std::min<std::int64_t>(kPanel, columns - panel);
      for_row_tiles(part.count, [&]<int Rows>(std::int64_t key) REFORMER_LAMBDA {
        const std::int64_t skipped = std::max<std::int64_t>(part.seen_from(key) - panel, 0);
        if (skipped >= width) return;
        with_vectors((width - skipped) / kLanes, [&]<int Vectors>() REFORMER_LAMBDA {
          function.template operator()<Rows, Vectors>(key, panel + skipped,
                                                      panel * shape_.head_dim + skipped, width);
        });
      });
    }
  }

  // weights_ = exp(score - lse)
  template <bool Shared>
  void weigh(const Part& part) {
    for_score_tiles(
        part, [&]<int Rows, int Vectors>(std::int64_t key, std::int64_t column, std::int64_t line,
                                         std::int64_t stride) REFORMER_LAMBDA {
          const KeyRows& keys = part.keys;
          const std::int64_t first = part.first + key;
          const float* rows[Rows];
          for (int r = 0; r < Rows; ++r) rows[r] = keys.keys + (first + r) * dims_;
          Floats tile[Rows][Vectors] = {};
          multiply<Rows, Vectors>(tile, rows, queries_ + line, stride, shape_.head_dim);
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
                x = broadcast(keys.position[first + r]) == position ? broadcast(kSelf) : x;
              store(weights_ + (key + r) * kQueries + query, exp_of_negative(x - lse));
            }
          }
        });
  }

  // score_gradients_ = weight * (gradient . value - delta) * scale of the key, 0 where the score is
  // a constant
  template <bool Shared>
  void differentiate(const Part& part) {
    for_score_tiles(
        part, [&]<int Rows, int Vectors>(std::int64_t key, std::int64_t column, std::int64_t line,
                                         std::int64_t stride) REFORMER_LAMBDA {
          const KeyRows& keys = part.keys;
          const std::int64_t first = part.first + key;
          const float* rows[Rows];
          for (int r = 0; r < Rows; ++r) rows[r] = keys.values + (first + r) * dims_;
          Floats tile[Rows][Vectors] = {};
          multiply<Rows, Vectors>(tile, rows, gradients_ + line, stride, shape_.head_dim);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) {
            const std::int64_t query = column + v * kLanes;
            const Floats delta = load(delta_ + query);
            const Ints limit = load(limit_ + query);
            Ints position;
            if constexpr (Shared) position = load(position_ + query);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) {
              const std::int64_t place = (key + r) * kQueries + query;
              Floats x = load(weights_ + place) * (tile[r][v] - delta) * keys.scale[first + r];
              x = broadcast(keys.reach[first + r]) > limit ? Floats{} : x;
              if constexpr (Shared)
                x = broadcast(keys.position[first + r]) == position ? Floats{} : x;
              store(score_gradients_ + place, x);
            }
          }
        });
  }

  // sums += matrix [key][query] times rows of the queries
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

  // query_sums_ += the transpose of score_gradients_ times rows of the keys
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
  std::int64_t dims_;
  const QueryRows* rows_ = nullptr;
  std::int64_t first_ = 0, count_ = 0;
  float *queries_, *gradients_;  // transposed, in panels
  float* query_sums_;
  float *weights_, *score_gradients_;  // [kKeys][kQueries]
  float *lse_, *delta_;
  std::int32_t *limit_, *position_;
};

struct Span {
  KeyRows* keys;
  bool diagonal;
};

template <bool Shared>
void run(const BackwardRound& round, std::size_t task) {
  const AttentionBackwardArguments& a = *round.arguments;
  const std::int64_t line = static_cast<std::int64_t>(task) / round.blocks_per_head;
  const std::int64_t block = static_cast<std::int64_t>(task) % round.blocks_per_head;
  const std::int64_t chunks = round.chunks_per_round();
  const std::int64_t first = round.round * chunks + block * round.chunks_per_block;
  const std::int64_t end = std::min(first + round.chunks_per_block, (round.round + 1) * chunks);
  const ChunkRing& ring = round.ring;

  const Head head(a, line);
  const ChunkShape shape{a.chunk_length, a.head_dim};
  KeyWindow window(round, task, head, shape, first, end);
  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(window.bytes() + QueryRows::bytes(shape, Shared) + Backward::bytes(shape) +
                Scratch::bytes_of<Span>(ring.width()));
  window.take(scratch);
  QueryRows queries;
  queries.take(shape, Shared, scratch);
  Backward backward(shape, scratch);
  Span* spans = scratch.take<Span>(ring.width());

  for (std::int64_t chunk = first; chunk < end; ++chunk) {
    const KeyRows& own = window.get(chunk, chunk);
    // In the order they have, causal queries that see themselves give later keys a weight of
    // exactly 0.
    const bool skip = a.causal && a.order == nullptr && !Shared && own.all_valid;
    std::int64_t num_spans = 0;
    for (std::int64_t shift = -ring.before; shift <= ring.after; ++shift) {
      const std::int64_t id = ring.neighbour(chunk, shift);
      if (skip && id > chunk) continue;
      spans[num_spans++] = {&window.get(id, chunk), skip && id == chunk};
    }
    queries.gather(a, head, shape, chunk, own);
    for (std::int64_t query = 0; query < shape.keys; query += kQueries) {
      const std::int64_t count = std::min(kQueries, shape.keys - query);
      backward.start(queries, query, count, a.causal);
      for (std::int64_t i = 0; i < num_spans; ++i)
        backward.add<Shared>(*spans[i].keys, spans[i].diagonal);
      for (std::int64_t i = 0; i < count; ++i)
        add_row(head.row(a.query_gradient, queries.position[query + i]), backward.query_gradient(i),
                shape.head_dim);
    }
  }
  window.flush_all();
}

}  // namespace

void attention_backward_block(const BackwardRound& round, std::size_t task) {
  if (round.arguments->shared)
    run<true>(round, task);
  else
    run<false>(round, task);
}

}  // namespace reformer::REFORMER_ISA
