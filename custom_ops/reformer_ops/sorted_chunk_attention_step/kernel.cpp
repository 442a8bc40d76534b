#include "sorted_chunk_attention_step/kernel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "isa.h"
#include "row_attention.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// The sorted tokens of one round of one head.
class Round {
 public:
  Round(const SortedStepArguments& a, std::int64_t batch, std::int64_t head, std::int64_t round)
      : length_(a.past_length[batch]) {
    const std::int64_t line = (batch * a.heads + head) * a.num_hashes + round;
    buckets_ = a.present_buckets + line * a.capacity;
    order_ = a.present_order + line * a.capacity;
    const std::int32_t* past_buckets = a.past_buckets + line * a.capacity;
    const std::int32_t* past_order = a.past_order + line * a.capacity;
    if (buckets_ != past_buckets) std::copy_n(past_buckets, a.capacity, buckets_);
    if (order_ != past_order) std::copy_n(past_order, a.capacity, order_);
    bucket_ = a.buckets[line];
  }

  // Adds the new token after all of its bucket and of those below; returns its place.
  std::int64_t insert() {
    std::int64_t place = 0, rest = length_;
    while (rest > 0) {  // a binary search for the first token of a bucket above
      const std::int64_t half = rest / 2;
      if (buckets_[token(place + half)] <= bucket_) {
        place += half + 1;
        rest -= half + 1;
      } else {
        rest = half;
      }
    }
    std::memmove(order_ + place + 1, order_ + place, (length_ - place) * sizeof(std::int32_t));
    buckets_[length_] = bucket_;
    order_[place] = static_cast<std::int32_t>(length_++);
    return place;
  }

  // The token at a place in the order.
  std::int64_t token(std::int64_t place) const {
    const std::int64_t found = order_[place];
    if (found < 0 || found >= length_)
      throw Error("sorted_chunk_attention_step takes an order of the tokens 0 to " +
                  std::to_string(length_ - 1) + "; got " + std::to_string(found) +
                  ": the cache is damaged, or of another length");
    return found;
  }

  std::int64_t length() const { return length_; }

 private:
  std::int64_t length_;
  std::int32_t *buckets_, *order_, bucket_;
};

// Writes the rounds' mean by the softmax of their logsumexps. `outputs` has `count` rows of `dim`.
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
    const std::int64_t place = sorted.insert();
    const bool all = a.attend_all[batch] != 0;
    if (all && round > 0) continue;  // it would be the same once more
    attention.clear();
    const std::int64_t count = all ? sorted.length() : reach;
    std::int64_t next = 0;
    if (!all) {
      next = (place / a.chunk_length - a.num_chunks_before) * a.chunk_length % sorted.length();
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
