#include "sorted_chunk_attention/kernel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "attention.h"
#include "attention_backward.h"
#include "chunking.h"
#include "isa.h"
#include "sorted_chunk_attention/sort.h"

namespace reformer {

// One round of hashing, cut into blocks.
struct SortedRound : ChunkBlocks {
  const AttentionArguments* arguments = nullptr;
  const std::int32_t* order =
      nullptr;                   // [batch, heads, num_hashes, length] positions sorted by bucket
  float* tops = nullptr;         // [batch, heads, length] largest logsumexp of the rounds so far
  float* sums = nullptr;         // [batch, heads, length] sum of exp(logsumexp - top) so far
  float* accumulator = nullptr;  // [batch, length, heads, head_dim] where fp16 rounds are summed
  std::int64_t round = 0;
};

}  // namespace reformer

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// The chunks of one task. A chunk is gathered when it is first needed and kept while later chunks
// see it.
template <typename Stored>
class GatheredChunks {
 public:
  GatheredChunks(const SortedRound& round, const ChunkShape& shape, std::int64_t width)
      : round_(round), arguments_(*round.arguments), shape_(shape), width_(width) {}

  // fp32 rows are used in place, unless vectors would read past their end.
  bool copies_queries() const {
    return sizeof(Stored) != sizeof(float) || shape_.head_dim % kLanes != 0;
  }

  std::size_t bytes() const {
    const std::size_t copies =
        copies_queries() ? Scratch::bytes_of<float>(shape_.keys * shape_.padded_dim()) : 0;
    const std::size_t slot = shape_.bytes() + copies + Scratch::bytes_of<const float*>(shape_.keys);
    return width_ * (slot + Scratch::bytes_of<Slot>(1)) +
           Scratch::bytes_of<float>(shape_.padded_keys());
  }

  void take(Scratch& scratch, std::int64_t batch, std::int64_t head) {
    slots_ = scratch.take<Slot>(width_);
    mean_squares_ = scratch.take<float>(shape_.padded_keys());
    for (std::int64_t i = 0; i < width_; ++i) {
      Slot& slot = slots_[i];
      slot.chunk = shape_.take(scratch);
      slot.rows = scratch.take<const float*>(shape_.keys);
      slot.copies =
          copies_queries() ? scratch.take<float>(shape_.keys * shape_.padded_dim()) : nullptr;
    }
    const std::int64_t length = arguments_.length, heads = arguments_.heads;
    stride_ = heads * arguments_.head_dim;
    const std::int64_t start = batch * length * stride_ + head * arguments_.head_dim;
    query_key_ = static_cast<const Stored*>(arguments_.query) + start;
    value_ = static_cast<const Stored*>(arguments_.value) + start;
    mask_ = arguments_.mask + batch * length;
  }

  struct Slot {
    KeyChunk chunk;
    const float** rows;  // the queries
    float* copies;
  };

  // The chunk `id` of this head. A chunk is not replaced while `needed` returns true for it.
  template <typename Needed>
  const Slot& get(std::int64_t id, const std::int32_t* positions, Needed&& needed) {
    Slot* free_slot = nullptr;
    for (std::int64_t i = 0; i < width_; ++i) {
      if (slots_[i].chunk.id == id) return slots_[i];
      if (slots_[i].chunk.id < 0 || !needed(slots_[i].chunk.id)) free_slot = &slots_[i];
    }
    gather(*free_slot, id, positions);
    return *free_slot;
  }

  // Prefetches the rows of a chunk that is needed soon.
  void announce(const std::int32_t* positions, RowPrefetch& prefetch) const {
    const std::int64_t stride = stride_ * sizeof(Stored);
    prefetch.add(query_key_, stride, positions, shape_.keys);
    prefetch.add(value_, stride, positions, shape_.keys);
  }

 private:
  void gather(Slot& slot, std::int64_t id, const std::int32_t* positions) {
    KeyChunk& chunk = slot.chunk;
    chunk.id = id;
    const std::int64_t chunks_per_round = arguments_.length / shape_.keys;
    chunk.first_column = static_cast<std::uint32_t>(id / chunks_per_round * arguments_.length);
    for (std::int64_t key = 0; key < shape_.keys; ++key) {
      const std::int32_t position = positions[key];
      const Stored* row = query_key_ + position * stride_;
      if constexpr (sizeof(Stored) == sizeof(float)) slot.rows[key] = row;
      if (slot.copies != nullptr) {
        float* copy = slot.copies + key * shape_.padded_dim();
        load_row(copy, row, shape_.head_dim);
        for (std::int64_t i = shape_.head_dim; i < shape_.padded_dim(); ++i) copy[i] = 0.0f;
        slot.rows[key] = copy;
      }
      pack_value(shape_, value_ + position * stride_, key, chunk);
      chunk.position[key] = position;
      chunk.reach[key] = mask_[position] ? position : kNever;
    }
    pack_keys(shape_, slot.rows, chunk, mean_squares_);
    const float root_dim = std::sqrt(static_cast<float>(shape_.head_dim));
    for (std::int64_t key = 0; key < shape_.keys; ++key)
      chunk.scale[key] = 1.0f / (std::sqrt(mean_squares_[key] + kKeyNormEpsilon) * root_dim);
  }

  const SortedRound& round_;
  const AttentionArguments& arguments_;
  ChunkShape shape_;
  std::int64_t width_, stride_ = 0;
  Slot* slots_ = nullptr;
  float* mean_squares_ = nullptr;
  const Stored *query_key_ = nullptr, *value_ = nullptr;
  const std::uint8_t* mask_ = nullptr;
};

// Adds the results of one round to those of the previous rounds. The weight of a round is the
// exponential of its logsumexp, which is fp32. Earlier results are scaled down if the new logsumexp
// is larger.
template <typename Stored>
class RoundSum {
 public:
  RoundSum(const SortedRound& round, std::int64_t batch, std::int64_t head, float* weights)
      : round_(round), weights_(weights) {
    const AttentionArguments& a = *round.arguments;
    stride_ = a.heads * a.head_dim;
    const std::int64_t start = batch * a.length * stride_ + head * a.head_dim;
    output_ = static_cast<Stored*>(a.output) + start;
    if constexpr (sizeof(Stored) == sizeof(float))
      accumulator_ = output_;
    else
      accumulator_ = round.accumulator == nullptr ? nullptr : round.accumulator + start;
    const std::int64_t lines = (batch * a.heads + head) * a.length;
    tops_ = round.tops == nullptr ? nullptr : round.tops + lines;
    sums_ = round.sums == nullptr ? nullptr : round.sums + lines;
    lse_ = a.lse == nullptr ? nullptr : a.lse + lines;
  }

  // Prefetches the rows that add() will change.
  void announce(const std::int32_t* positions, std::int64_t count, RowPrefetch& prefetch) const {
    prefetch.add(output_, stride_ * sizeof(Stored), positions, count);
  }

  // `weights` must have space for four times the rows, rounded up to kLanes.
  void add(Attention& attention, const std::int32_t* positions, std::int64_t count) {
    const AttentionArguments& a = *round_.arguments;
    const bool first = round_.round == 0, last = round_.round + 1 == a.num_hashes;
    const std::int64_t padded = round_up(count, kLanes);
    float *old_weight = weights_, *new_weight = weights_ + padded;
    float *top = weights_ + 2 * padded, *total = weights_ + 3 * padded;
    for (std::int64_t row = 0; row < padded; ++row) {
      const bool before = !first && row < count;
      top[row] = before ? tops_[positions[row]] : kAbsent;
      total[row] = before ? sums_[positions[row]] : 0.0f;
    }
    for (std::int64_t row = 0; row < padded; row += kLanes) {
      const Floats top_score = load(attention.tops() + row);
      const Floats lse = top_score + log_from_one(load(attention.sums() + row));
      const Floats old_top = load(top + row), new_top = maximum(old_top, lse);
      Floats keep = exp_of_negative(old_top - new_top);
      const Floats gain = exp_of_negative(lse - new_top);
      const Floats sum = load(total + row) * keep + gain;
      Floats add = gain * exp_of_negative(top_score - lse);
      if (last) {
        const Floats all = new_top + log_from_one(sum);
        if (lse_ != nullptr)
          for (std::int64_t i = 0; i < std::min<std::int64_t>(kLanes, count - row); ++i)
            lse_[positions[row + i]] = all[i];
        const Floats norm = exp_of_negative(new_top - all);
        keep = keep * norm;
        add = add * norm;
      }
      store(old_weight + row, keep);
      store(new_weight + row, add);
      store(top + row, new_top);
      store(total + row, sum);
    }
    for (std::int64_t row = 0; row < count; ++row) {
      const std::int64_t position = positions[row];
      const float* result = attention.result(row);
      if (!last) {
        tops_[position] = top[row];
        sums_[position] = total[row];
      }
      if (first && last) {
        store_row(output_ + position * stride_, result, new_weight[row], a.head_dim);
        continue;
      }
      float* so_far = accumulator_ + position * stride_;
      if (first) {
        store_row(so_far, result, new_weight[row], a.head_dim);
      } else {
        const float keep = old_weight[row], add = new_weight[row];
        for (std::int64_t dim = 0; dim < a.head_dim; ++dim)
          so_far[dim] = so_far[dim] * keep + result[dim] * add;
        if constexpr (sizeof(Stored) != sizeof(float))
          if (last) store_row(output_ + position * stride_, so_far, 1.0f, a.head_dim);
      }
    }
  }

 private:
  const SortedRound& round_;
  float* weights_;
  std::int64_t stride_;
  Stored* output_;
  float *accumulator_, *tops_, *sums_, *lse_;
};

template <typename Stored>
void run(const SortedRound& round, std::size_t task) {
  const AttentionArguments& a = *round.arguments;
  const std::int64_t line = static_cast<std::int64_t>(task) / round.blocks_per_head;
  const std::int64_t block = static_cast<std::int64_t>(task) % round.blocks_per_head;
  const std::int64_t batch = line / a.heads, head = line % a.heads;
  const std::int64_t chunks_per_round = a.length / a.chunk_length;
  const ChunkRing ring{chunks_per_round * a.num_hashes, a.num_chunks_before, a.num_chunks_after};
  const std::int64_t width = ring.width();
  const std::int64_t first = round.round * chunks_per_round + block * round.chunks_per_block;
  const std::int64_t end =
      std::min(first + round.chunks_per_block, (round.round + 1) * chunks_per_round);
  const std::int32_t* order = round.order + line * a.num_hashes * a.length;

  const ChunkShape shape{a.chunk_length, a.head_dim};
  GatheredChunks<Stored> chunks(round, shape, width);
  const std::int64_t rows = Attention::rows_for(shape, width);
  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(chunks.bytes() + Attention::bytes(shape, width) +
                Scratch::bytes_of<float>(4 * round_up(rows, kLanes)) +
                Scratch::bytes_of<KeySpan>(width));
  chunks.take(scratch, batch, head);
  RowPrefetch prefetch(a.head_dim * sizeof(Stored));
  const Dropout dropout = a.dropout.from_row((round.round * a.batch * a.heads + line) * a.length);
  Attention attention(shape, width, dropout, scratch, prefetch);
  RoundSum<Stored> sum(round, batch, head, scratch.take<float>(4 * round_up(rows, kLanes)));
  KeySpan* spans = scratch.take<KeySpan>(width);

  for (std::int64_t chunk = first; chunk < end; ++chunk) {
    const auto needed = [&](std::int64_t id) { return ring.sees(chunk, id); };
    const auto& own = chunks.get(chunk, order + chunk * shape.keys, needed);
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t id = ring.neighbour(chunk, i - ring.before);
      spans[i] = {&chunks.get(id, order + id * shape.keys, needed).chunk, false};
    }
    const std::int32_t* positions = order + chunk * shape.keys;
    prefetch.restart(Attention::tiles(shape, width));
    sum.announce(positions, shape.keys, prefetch);
    if (chunk + 1 < end) {
      const std::int64_t next = ring.neighbour(chunk + 1, ring.after);
      chunks.announce(order + next * shape.keys, prefetch);
    }
    for (std::int64_t row = 0; row < shape.keys; row += rows) {
      const std::int64_t count = std::min(rows, shape.keys - row);
      attention.attend<true>({own.rows + row, positions + row, row, count}, spans, width, a.causal);
      sum.add(attention, positions + row, count);
    }
  }
}

}  // namespace

void sorted_chunk_block(const SortedRound& round, std::size_t task) {
  if (round.arguments->dtype == DType::f32)
    run<float>(round, task);
  else
    run<Half>(round, task);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(sorted_chunk_block)

void sorted_chunk_attention(const AttentionArguments& given, const Parallel& parallel) {
  const char* op = "sorted_chunk_attention";
  AttentionArguments a = given;
  check_at_least(op, "num_buckets", a.num_buckets, 1);
  // If the sequence is one chunk, one round without sorting is enough.
  const bool sorted = a.length > a.chunk_length;
  apply_chunking(op, a);
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  if (lines == 0 || a.length == 0 || a.head_dim == 0) return;
  if (!sorted) a.num_hashes = 1;
  if (a.num_hashes < 1) throw Error("sorted_chunk_attention needs at least one round of hashing");
  const std::unique_ptr<std::int32_t[]> order = sorted_positions(
      op, sorted ? a.buckets : nullptr, lines, a.num_hashes, a.length, a.num_buckets, parallel);

  const std::int64_t queries = lines * a.length;
  std::unique_ptr<float[]> weights;
  if (a.num_hashes > 1) weights.reset(new float[2 * queries]);
  std::unique_ptr<float[]> accumulator;
  if (a.num_hashes > 1 && a.dtype == DType::f16)
    accumulator.reset(new float[checked_product(queries, a.head_dim, "the output")]);

  SortedRound round{{a.length / a.chunk_length, lines}};
  round.arguments = &a;
  round.order = order.get();
  round.tops = weights.get();
  round.sums = weights == nullptr ? nullptr : weights.get() + queries;
  round.accumulator = accumulator.get();
  const auto block = active_sorted_chunk_block();
  // Rounds run one after another, because each adds to the output of the previous rounds.
  for (round.round = 0; round.round < a.num_hashes; ++round.round)
    parallel_for(parallel, lines * round.blocks_per_head,
                 [&](std::size_t task) { block(round, task); });
}

void sorted_chunk_attention_backward(const AttentionBackwardArguments& given,
                                     const Parallel& parallel) {
  const char* op = "sorted_chunk_attention_backward";
  AttentionBackwardArguments a = given;
  check_at_least(op, "num_buckets", a.num_buckets, 1);
  const bool sorted = a.length > a.chunk_length;
  apply_chunking(op, a);
  if (!sorted) a.num_hashes = 1;
  std::unique_ptr<std::int32_t[]> order;
  if (sorted)
    order = sorted_positions(op, a.buckets, checked_product(a.batch, a.heads, "batch * heads"),
                             a.num_hashes, a.length, a.num_buckets, parallel);
  a.order = order.get();
  attention_backward(a, parallel);
}

}  // namespace reformer
#endif
