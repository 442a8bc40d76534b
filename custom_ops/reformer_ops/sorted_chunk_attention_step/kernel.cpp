#include "sorted_chunk_attention_step/kernel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

#include "isa.h"
#include "row_attention.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// The tokens of one round of one head, in order. Block b contains the ranks from b * block_length
// on. It is a ring: its first rank is at starts[b]. A new token moves all tokens after it by one
// rank, but numbers move only in its own block; in each later block the last slot becomes the
// first.
class Round {
 public:
  Round(const SortedStepArguments& a, std::int64_t batch, std::int64_t head, std::int64_t round)
      : length_(a.past_length[batch]), block_length_(static_cast<std::int32_t>(a.block_length)) {
    const std::int64_t line = (batch * a.heads + head) * a.num_hashes + round;
    buckets_ = present(a.present_buckets, a.past_buckets, line, a.capacity);
    order_ = present(a.present_order, a.past_order, line, a.blocks * a.block_length);
    starts_ = present(a.present_starts, a.past_starts, line, a.blocks);
    bucket_ = a.buckets[line];
  }

  // Inserts the new token after all tokens of its bucket and of lower buckets; returns its rank.
  std::int64_t insert() {
    std::int64_t rank = 0, rest = length_;
    while (rest > 0) {  // binary search for the first token of a higher bucket
      const std::int64_t half = rest / 2;
      if (buckets_[token(rank + half)] <= bucket_) {
        rank += half + 1;
        rest -= half + 1;
      } else {
        rest = half;
      }
    }
    const std::int64_t block = rank / block_length_, last = length_ / block_length_;
    std::int32_t carried = static_cast<std::int32_t>(length_);
    const std::int32_t within = static_cast<std::int32_t>(rank % block_length_);
    carried = insert_into(block, within,
                          block == last ? length_ % block_length_ : block_length_ - 1, carried);
    for (std::int64_t next = block + 1; next <= last; ++next) {
      const std::int32_t start = checked_start(next);
      starts_[next] = start == 0 ? block_length_ - 1 : start - 1;
      std::swap(order_[next * block_length_ + starts_[next]], carried);
    }
    buckets_[length_++] = bucket_;
    return rank;
  }

  // The token at a rank.
  std::int64_t token(std::int64_t rank) const {
    const std::int32_t block = static_cast<std::int32_t>(rank) / block_length_;
    const std::int32_t within = static_cast<std::int32_t>(rank) - block * block_length_;
    const std::int64_t found = ring(block)[slot(checked_start(block) + within)];
    if (found < 0 || found >= length_)
      throw Error("sorted_chunk_attention_step takes an order of the tokens 0 to " +
                  std::to_string(length_ - 1) + "; got " + std::to_string(found) +
                  ": the cache is damaged, or of another length");
    return found;
  }

  std::int64_t length() const { return length_; }

 private:
  // The present's line, with the content of the past's line.
  static std::int32_t* present(std::int32_t* present, const std::int32_t* past, std::int64_t line,
                               std::int64_t size) {
    if (present != past) std::copy_n(past + line * size, size, present + line * size);
    return present + line * size;
  }

  std::int32_t* ring(std::int64_t block) const { return order_ + block * block_length_; }

  std::int32_t slot(std::int32_t place) const {
    return place < block_length_ ? place : place - block_length_;
  }

  std::int32_t checked_start(std::int64_t block) const {
    const std::int32_t start = starts_[block];
    if (start < 0 || start >= block_length_)
      throw Error("sorted_chunk_attention_step takes starts from 0 to " +
                  std::to_string(block_length_ - 1) + "; got " + std::to_string(start) +
                  ": the cache is damaged");
    return start;
  }

  // Moves the ranks `rank` to `last - 1` of a block up by one, and writes `token` at `rank`.
  // Returns the number that was at rank `last`.
  std::int32_t insert_into(std::int64_t block, std::int32_t rank, std::int32_t last,
                           std::int32_t token) {
    std::int32_t* const tokens = ring(block);
    std::int32_t to = slot(checked_start(block) + last);
    const std::int32_t pushed_out = tokens[to];
    for (std::int32_t moves = last - rank; moves > 0;) {
      if (to == 0) {
        tokens[0] = tokens[block_length_ - 1];
        to = block_length_ - 1;
        --moves;
        continue;
      }
      const std::int32_t run = std::min(moves, to);  // up to the end of the memory
      std::memmove(tokens + to - run + 1, tokens + to - run, run * sizeof(std::int32_t));
      to -= run;
      moves -= run;
    }
    tokens[to] = token;
    return pushed_out;
  }

  std::int64_t length_;
  std::int32_t *buckets_, *order_, *starts_, block_length_, bucket_;
};

// Writes the mean of the rounds, weighted by the softmax of their logsumexps. `outputs` has `count`
// rows of `dim`.
void sum_rounds(const float* outputs, const float* lses, std::int64_t count, std::int64_t dim,
                float* sum) {
  const float top = *std::max_element(lses, lses + count);
  float total = 0.0f;
  for (std::int64_t i = 0; i < count; ++i) total += exp_of_negative(broadcast(lses[i] - top))[0];
  const float lse = top + log_from_one(broadcast(total))[0];
  std::fill_n(sum, dim, 0.0f);
  for (std::int64_t i = 0; i < count; ++i) {
    const float share = exp_of_negative(broadcast(lses[i] - lse))[0];
    for (std::int64_t d = 0; d < dim; ++d) sum[d] += share * outputs[i * dim + d];
  }
}

template <typename Stored>
void run(const SortedStepArguments& a, std::size_t task) {
  const std::int64_t line = static_cast<std::int64_t>(task);
  const std::int64_t batch = line / a.heads, head = line % a.heads;
  const std::int64_t dim = a.head_dim;
  const HeadCache<Stored> cache{a.capacity, a.heads * dim, dim};
  const std::int64_t start = batch * a.capacity * cache.stride + head * dim;
  const std::int64_t position = a.past_length[batch], row = line * dim;
  const Stored* query = static_cast<const Stored*>(a.query_key) + row;
  const Stored* keys = cache.append(a.present_key, a.past_key, start, query, position);
  const Stored* values = cache.append(a.present_value, a.past_value, start,
                                      static_cast<const Stored*>(a.value) + row, position);

  const std::int64_t reach = (a.num_chunks_before + 1) * a.chunk_length;
  RowAttention<Stored> attention(std::max(reach, a.chunk_length + 1), dim);
  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(attention.bytes() + Scratch::bytes_of<float>(a.num_hashes * dim) +
                Scratch::bytes_of<float>(a.num_hashes) + Scratch::bytes_of<float>(dim));
  attention.take(scratch);
  float* outputs = scratch.take<float>(a.num_hashes * dim);
  float* lses = scratch.take<float>(a.num_hashes);
  float* sum = scratch.take<float>(dim);
  attention.set_query(query);

  std::int64_t rounds = 0;
  for (std::int64_t round = 0; round < a.num_hashes; ++round) {
    Round sorted(a, batch, head, round);
    const std::int64_t rank = sorted.insert();
    const bool all = a.attend_all[batch] != 0;
    if (all && round > 0) continue;  // every round would give the same result
    attention.clear();
    const std::int64_t count = all ? sorted.length() : reach;
    std::int64_t next = 0;
    if (!all) {
      next = (rank / a.chunk_length - a.num_chunks_before) * a.chunk_length % sorted.length();
      if (next < 0) next += sorted.length();
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t token = all ? i : sorted.token(next);
      if (++next == sorted.length()) next = 0;
      attention.add(keys + token * cache.stride, values + token * cache.stride);
    }
    attention.template score<true>();
    attention.set_scores_of(keys + position * cache.stride, kSelf);
    lses[rounds] = attention.mix(outputs + rounds * dim);
    ++rounds;
  }
  sum_rounds(outputs, lses, rounds, dim, sum);
  store_row(static_cast<Stored*>(a.output) + row, sum, 1.0f, dim);
}

}  // namespace

void sorted_chunk_attention_step_head(const SortedStepArguments& arguments, std::size_t task) {
  if (arguments.dtype == DType::f32)
    run<float>(arguments, task);
  else
    run<Half>(arguments, task);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(sorted_chunk_attention_step_head)

void sorted_chunk_attention_step(const SortedStepArguments& a, const Parallel& parallel) {
  checked_product(a.num_chunks_before + 1, a.chunk_length, "sorted_chunk_attention_step's window");
  if (a.blocks * a.block_length < a.capacity ||
      a.blocks * a.block_length > std::numeric_limits<std::int32_t>::max())
    throw Error(
        "sorted_chunk_attention_step takes an order with room for as many tokens as the "
        "cache, " +
        std::to_string(a.capacity) + "; got " + std::to_string(a.blocks) + " blocks of " +
        std::to_string(a.block_length));
  for (std::int64_t row = 0; row < a.batch; ++row) {
    const std::int64_t length = a.past_length[row];
    if (length < 0)
      throw Error("sorted_chunk_attention_step takes a past_length of 0 or more; got " +
                  std::to_string(length));
    if (length >= a.capacity)
      throw Error("sorted_chunk_attention_step takes a cache with room for one more token; got " +
                  std::to_string(length) + " tokens in a cache of " + std::to_string(a.capacity));
    if (a.attend_all[row] && length > a.chunk_length)
      throw Error("sorted_chunk_attention_step takes attend_all for at most " +
                  std::to_string(a.chunk_length) + " tokens, a chunk; got " +
                  std::to_string(length));
  }
  const auto head = active_sorted_chunk_attention_step_head();
  parallel_for(parallel, a.batch * a.heads, [&](std::size_t task) { head(a, task); });
}

}  // namespace reformer
#endif
