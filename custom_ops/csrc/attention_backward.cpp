#include "attention_backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "attention_gradients.h"
#include "chunking.h"
#include "common.h"
#include "isa.h"

namespace reformer {

// One round of hashing (or the unsorted sequence), cut into blocks. A block adds to the gradients
// of its own positions, which belong to no other block of the round. Gradients for keys of other
// blocks go to the block's halo; they are added when all blocks are done.
struct BackwardRound : ChunkBlocks {
  const AttentionBackwardArguments* arguments = nullptr;
  ChunkRing ring = {};  // the chunks of all rounds
  std::int64_t round = 0;
  std::int64_t halo_chunks = 0;      // how many chunks of other blocks a block may see
  std::int64_t* halo_ids = nullptr;  // [tasks, halo_chunks] chunk numbers; -1: unused
  float* halo_rows = nullptr;  // [tasks, halo_chunks, 2, chunk_length, head_dim] of keys, of values

  std::int64_t chunks_per_round() const { return arguments->length / arguments->chunk_length; }
};

}  // namespace reformer

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

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

// Addresses of the rows of one head of one sequence.
struct Head {
  Head(const AttentionBackwardArguments& a, std::int64_t line)
      : stride(a.heads * a.head_dim),
        start(line / a.heads * a.length * stride + line % a.heads * a.head_dim),
        mask(a.mask + line / a.heads * a.length),
        lse(a.lse + line * a.length),
        order(a.order == nullptr ? nullptr : a.order + line * a.num_hashes * a.length) {}

  // The position in the sequence of a slot in the ring of chunks.
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

// The chunks of one task, loaded when they are needed and kept while later chunks see them. When a
// chunk is replaced, its sums are added to the gradients, or stored in the halo if the chunk
// belongs to another task.
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

  // The keys of chunk `id`, for the queries of chunk `seen_by`.
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
    rows.first_column =
        static_cast<std::uint32_t>(id / round_.chunks_per_round() * arguments_.length);
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
      // Bit-identical to the forward pass: any difference would show in scores minus logsumexp.
      transpose_blocks(
          shape_.keys, shape_.head_dim, [&](std::int64_t key) { return rows.keys + key * dims; },
          rows.scale,
          // The type is not deduced, because deduction loses the unaligned attribute of Floats.
          [](const Floats(&)[kLanes], std::int64_t, std::int64_t, std::int64_t) REFORMER_LAMBDA {});
      for (std::int64_t key = 0; key < shape_.keys; ++key)
        rows.scale[key] = 1.0f / (std::sqrt(rows.scale[key] + kKeyNormEpsilon) * root_dim);
    }
    std::fill_n(rows.key_sums, shape_.keys * dims, 0.0f);
    std::fill_n(rows.value_sums, shape_.keys * dims, 0.0f);
  }

  void flush(KeyRows& rows) {
    if (rows.chunk < 0) return;
    const std::int64_t dims = shape_.padded_dim(), count = shape_.head_dim;
    if (arguments_.shared) {
      // A key is k = scale * q. Let `s` be the sum of score gradients times queries and scale. The
      // gradient of q is s - q (s . q) scale^2: the part of s along q changes only the norm, and k
      // does not depend on the norm.
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

  // The place in the halo for the rows of a chunk.
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

// Loads the queries of chunk `chunk`, whose keys are `own`.
void gather(QueryRows& rows, const AttentionBackwardArguments& a, const Head& head,
            const ChunkShape& shape, std::int64_t chunk, const KeyRows& own) {
  const std::int64_t dims = shape.padded_dim();
  rows.queries = rows.copies == nullptr ? own.keys : rows.copies;
  for (std::int64_t i = 0; i < shape.keys; ++i) {
    rows.position[i] = head.position(chunk * shape.keys + i);
    rows.lse[i] = head.lse[rows.position[i]];
    float* gradient = rows.gradients + i * dims;
    load_row(gradient, head.row(a.gradient, rows.position[i]), shape.head_dim);
    std::fill(gradient + shape.head_dim, gradient + dims, 0.0f);
    rows.delta[i] = dot(gradient, head.row(a.output, rows.position[i]), shape.head_dim);
    if (rows.copies == nullptr) continue;
    float* copy = rows.copies + i * dims;
    load_row(copy, head.row(a.query, rows.position[i]), shape.head_dim);
    std::fill(copy + shape.head_dim, copy + dims, 0.0f);
  }
}

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
  scratch.reset(window.bytes() + QueryRows::bytes(shape, Shared) +
                AttentionGradients::bytes(shape) + Scratch::bytes_of<Span>(ring.width()));
  window.take(scratch);
  QueryRows queries;
  queries.take(shape, Shared, scratch);
  const Dropout dropout = a.dropout.from_row((round.round * a.batch * a.heads + line) * a.length);
  AttentionGradients backward(shape, dropout, scratch);
  Span* spans = scratch.take<Span>(ring.width());

  for (std::int64_t chunk = first; chunk < end; ++chunk) {
    const KeyRows& own = window.get(chunk, chunk);
    // Without sorting, a causal query that sees itself gives later keys a weight of exactly 0.
    const bool skip = a.causal && a.order == nullptr && !Shared && own.all_valid;
    std::int64_t num_spans = 0;
    for (std::int64_t shift = -ring.before; shift <= ring.after; ++shift) {
      const std::int64_t id = ring.neighbour(chunk, shift);
      if (skip && id > chunk) continue;
      spans[num_spans++] = {&window.get(id, chunk), skip && id == chunk};
    }
    gather(queries, a, head, shape, chunk, own);
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

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(attention_backward_block)

namespace {

// Adds the halos of the blocks of one head, always in the same order.
void add_halos(const BackwardRound& round, std::int64_t line) {
  const AttentionBackwardArguments& a = *round.arguments;
  const std::int64_t stride = a.heads * a.head_dim, rows = a.chunk_length * a.head_dim;
  const std::int64_t start = line / a.heads * a.length * stride + line % a.heads * a.head_dim;
  const std::int32_t* order =
      a.order == nullptr ? nullptr : a.order + line * a.num_hashes * a.length;
  const auto add = [&](float* gradient, std::int64_t slot, const float* row) {
    const std::int64_t position = order == nullptr ? slot : order[slot];
    float* to = gradient + start + position * stride;
    for (std::int64_t dim = 0; dim < a.head_dim; ++dim) to[dim] += row[dim];
  };
  const std::int64_t first = line * round.blocks_per_head * round.halo_chunks;
  for (std::int64_t i = first; i < first + round.blocks_per_head * round.halo_chunks; ++i) {
    if (round.halo_ids[i] < 0) continue;
    const float* keys = round.halo_rows + 2 * i * rows;
    for (std::int64_t key = 0; key < a.chunk_length; ++key) {
      const std::int64_t slot = round.halo_ids[i] * a.chunk_length + key;
      add(a.key_gradient, slot, keys + key * a.head_dim);
      add(a.value_gradient, slot, keys + rows + key * a.head_dim);
    }
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArguments& a, const Parallel& parallel) {
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  const std::int64_t numbers =
      checked_product(checked_product(lines, a.length, "the input"), a.head_dim, "the input");
  for (float* gradient : {a.query_gradient, a.key_gradient, a.value_gradient})
    std::fill_n(gradient, numbers, 0.0f);

  const std::int64_t chunks = a.length / a.chunk_length;
  BackwardRound round{{chunks, lines}};
  round.arguments = &a;
  round.ring = {chunks * a.num_hashes, a.num_chunks_before, a.num_chunks_after};
  const std::int64_t tasks = lines * round.blocks_per_head;
  // If one block is the whole ring, it sees no other block.
  const bool alone = round.blocks_per_head * a.num_hashes == 1;
  round.halo_chunks = alone ? 0 : std::min(round.ring.width(), round.ring.count) - 1;
  const std::int64_t halos = tasks * round.halo_chunks;
  std::unique_ptr<std::int64_t[]> ids(new std::int64_t[halos]);
  std::unique_ptr<float[]> rows(new float[halos * 2 * a.chunk_length * a.head_dim]);
  round.halo_ids = ids.get();
  round.halo_rows = rows.get();

  const auto block = active_attention_backward_block();
  // The rounds run one after another, because a position belongs to one block in each round.
  for (round.round = 0; round.round < a.num_hashes; ++round.round) {
    parallel_for(parallel, tasks, [&](std::size_t task) { block(round, task); });
    if (halos > 0) parallel_for(parallel, lines, [&](std::size_t line) { add_halos(round, line); });
  }
}

}  // namespace reformer
#endif
