// Attention of one query to rows of keys and values at any addresses, for both decoding steps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attention_scores.h"
#include "scratch.h"
#include "simd.h"
#include "storage.h"

namespace reformer::REFORMER_ISA {

REFORMER_INLINE Floats load_vector(const float* from) { return load(from); }
REFORMER_INLINE Floats load_vector(const Half* from) {
  float wide[kLanes];
  load_row(wide, from, kLanes);
  return load(wide);
}

REFORMER_INLINE float sum_of_lanes(Floats x) {
  float sum = x[0];
  for (int lane = 1; lane < kLanes; ++lane) sum += x[lane];
  return sum;
}

// The keys and values that a query sees. Add rows, then call score() and mix(). All sums are in the
// order of the rows.
template <typename Stored>
class RowAttention {
 public:
  RowAttention(std::int64_t most_rows, std::int64_t head_dim)
      : capacity_(round_up(most_rows, kLanes)), dim_(head_dim) {}

  std::size_t bytes() const {
    return 2 * Scratch::bytes_of<const Stored*>(capacity_) + Scratch::bytes_of<float>(capacity_) +
           Scratch::bytes_of<float>(round_up(dim_, kLanes));
  }

  void take(Scratch& scratch) {
    keys_ = scratch.take<const Stored*>(capacity_);
    values_ = scratch.take<const Stored*>(capacity_);
    scores_ = scratch.take<float>(capacity_);
    query_ = scratch.take<float>(round_up(dim_, kLanes));
  }

  void set_query(const Stored* query) {
    load_row(query_, query, dim_);
    std::fill(query_ + dim_, query_ + round_up(dim_, kLanes), 0.0f);
  }

  void clear() { count_ = 0; }

  void add(const Stored* key, const Stored* value) {
    keys_[count_] = key;
    values_[count_++] = value;
  }

  std::int64_t count() const { return count_; }

  // The scores of all rows. With Normed, keys are divided by their root mean square.
  template <bool Normed>
  void score() {
    const float root_dim = std::sqrt(static_cast<float>(dim_));
    for (std::int64_t first = 0; first < count_; first += kLanes) {
      Floats dots[kLanes], squares[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const std::int64_t row = std::min(first + i, count_ - 1);
        const std::int64_t later = std::min(row + kAhead, count_ - 1);
        prefetch(keys_[later]);
        prefetch(values_[row]);
        add_products<Normed>(keys_[row], dots[i], squares[i]);
      }
      Floats scores = sums_of(dots);
      if constexpr (Normed) {
        const Floats mean = sums_of(squares) / static_cast<float>(dim_) + kKeyNormEpsilon;
        for (int i = 0; i < kLanes; ++i) scores[i] /= std::sqrt(mean[i]) * root_dim;
      } else {
        scores /= root_dim;
      }
      store(scores_ + first, scores);
    }
    for (std::int64_t row = count_; row < round_up(count_, kLanes); ++row) scores_[row] = kAbsent;
  }

  // Replaces the scores of a key, which may occur several times.
  void set_scores_of(const Stored* key, float score) {
    for (std::int64_t row = 0; row < count_; ++row)
      if (keys_[row] == key) scores_[row] = score;
  }

  // Writes the mean of the values, weighted by the softmax of the scores. Returns the logsumexp of
  // the scores.
  float mix(float* output) {
    Floats tops = load(scores_);
    for (std::int64_t row = kLanes; row < count_; row += kLanes)
      tops = maximum(tops, load(scores_ + row));
    float top = tops[0];
    for (int lane = 1; lane < kLanes; ++lane) top = std::max(top, tops[lane]);
    Floats sums{};
    for (std::int64_t row = 0; row < count_; row += kLanes) {
      const Floats weights = exp_of_negative(load(scores_ + row) - top);
      store(scores_ + row, weights);
      sums += weights;
    }
    // The logsumexp is fp32: if the top is large, adding the logarithm may not change it.
    const float lse = top + log_from_one(broadcast(sum_of_lanes(sums)))[0];
    const float scale = exp_of_negative(broadcast(top - lse))[0];
    std::int64_t start = 0;
    for (; start + kPanel <= dim_; start += kPanel)
      mix_columns<kPanelVectors>(output, start, scale);
    for (; start + kLanes <= dim_; start += kLanes) mix_columns<1>(output, start, scale);
    for (; start < dim_; ++start) {
      float sum = 0.0f;
      for (std::int64_t row = 0; row < count_; ++row)
        sum += scores_[row] * to_float(values_[row][start]);
      output[start] = sum * scale;
    }
    return lse;
  }

 private:
  // Rows between prefetch and use: one row takes less time than an access to memory.
  static constexpr std::int64_t kAhead = 8;

  REFORMER_INLINE void prefetch(const Stored* row) const {
    const char* bytes = reinterpret_cast<const char*>(row);
    for (std::int64_t byte = 0; byte < dim_ * static_cast<std::int64_t>(sizeof(Stored)); byte += 64)
      __builtin_prefetch(bytes + byte, 0, 3);
  }

  template <bool Normed>
  REFORMER_INLINE void add_products(const Stored* key, Floats& dot, Floats& square) const {
    dot = square = Floats{};
    std::int64_t d = 0;
    for (; d + kLanes <= dim_; d += kLanes) {
      const Floats x = load_vector(key + d);
      dot += x * load(query_ + d);
      if constexpr (Normed) square += x * x;
    }
    if (d == dim_) return;
    float rest[kLanes] = {};
    load_row(rest, key + d, dim_ - d);
    const Floats x = load(rest);
    dot += x * load(query_ + d);
    if constexpr (Normed) square += x * x;
  }

  // The sum of each vector.
  REFORMER_INLINE static Floats sums_of(Floats (&rows)[kLanes]) {
    transpose(rows);
    Floats sum = rows[0];
    for (int i = 1; i < kLanes; ++i) sum += rows[i];
    return sum;
  }

  template <int Vectors>
  REFORMER_INLINE void mix_columns(float* output, std::int64_t start, float scale) const {
    Floats sums[Vectors] = {};
    for (std::int64_t row = 0; row < count_; ++row) {
      const Floats weight = broadcast(scores_[row]);
      for (int i = 0; i < Vectors; ++i)
        sums[i] += weight * load_vector(values_[row] + start + i * kLanes);
    }
    for (int i = 0; i < Vectors; ++i) store(output + start + i * kLanes, sums[i] * scale);
  }

  std::int64_t capacity_, dim_, count_ = 0;
  const Stored **keys_ = nullptr, **values_ = nullptr;
  float *scores_ = nullptr, *query_ = nullptr;
};

// The cached rows of one head, `stride` elements apart.
template <typename Stored>
struct HeadCache {
  std::int64_t capacity, stride, dim;

  // Copies the past to the present, unless both are the same buffer, and writes `row` to index
  // `place`. In both tensors, the head starts at element `start`. Returns the present's first row.
  Stored* append(void* present, const void* past, std::int64_t start, const Stored* row,
                 std::int64_t place) const {
    Stored* to = static_cast<Stored*>(present) + start;
    const Stored* from = static_cast<const Stored*>(past) + start;
    if (to != from)
      for (std::int64_t i = 0; i < capacity; ++i)
        std::copy_n(from + i * stride, dim, to + i * stride);
    std::copy_n(row, dim, to + place * stride);
    return to;
  }
};

}  // namespace reformer::REFORMER_ISA
