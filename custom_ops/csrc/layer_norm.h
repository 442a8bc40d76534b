// Layer norms of rows, and their gradients. Widths are multiples of kLanes.
#pragma once

#include <cmath>

#include "simd.h"

namespace reformer::REFORMER_ISA {

// The sum of a vector's lanes, always in the same order.
REFORMER_INLINE float sum_of_lanes(Floats x) {
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Ints from;
    for (int lane = 0; lane < kLanes; ++lane) from[lane] = (lane + half) % kLanes;
    x = x + __builtin_shuffle(x, from);
  }
  return x[0];
}

class LayerNorm {
 public:
  LayerNorm(const float* weight, const float* bias, std::int64_t width, float epsilon)
      : weight_(weight), bias_(bias), width_(width), epsilon_(epsilon) {}

  // Writes `count` normalised rows, with weight and bias applied.
  void apply(const float* rows, std::int64_t count, float* to) const {
    for_rows(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
      apply_to<Rows>(rows + row * width_, to + row * width_);
    });
  }

  // Writes the gradients of `count` rows, from the gradients of the output of apply(). Adds the
  // gradients of weight and bias to the sums.
  void differentiate(const float* rows, const float* gradients, std::int64_t count,
                     float* row_gradients, float* weight_sums, float* bias_sums) const {
    for_rows(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
      differentiate_rows<Rows>(rows + row * width_, gradients + row * width_,
                               row_gradients + row * width_, weight_sums, bias_sums);
    });
  }

 private:
  // The mean of a row and the reciprocal of its standard deviation.
  struct Moments {
    float mean, scale;

    REFORMER_INLINE Floats normalise(Floats x) const { return (x - mean) * scale; }
  };

  // Calls function.operator()<Rows>(row), for several rows at once: each row is a chain of
  // dependent sums.
  template <typename Function>
  REFORMER_INLINE static void for_rows(std::int64_t count, Function&& function) {
    std::int64_t row = 0;
    for (; row + 4 <= count; row += 4) function.template operator()<4>(row);
    for (; row < count; ++row) function.template operator()<1>(row);
  }

  template <int Rows>
  REFORMER_INLINE void find_moments(const float* rows, Moments (&found)[Rows]) const {
    Floats totals[Rows] = {}, squares[Rows] = {};
    for (std::int64_t i = 0; i < width_; i += kLanes)
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) totals[r] = totals[r] + load(rows + r * width_ + i);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) found[r].mean = sum_of_lanes(totals[r]) / width_;
    for (std::int64_t i = 0; i < width_; i += kLanes)
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const Floats centred = load(rows + r * width_ + i) - found[r].mean;
        squares[r] = centred * centred + squares[r];
      }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
      found[r].scale = 1.0f / std::sqrt(sum_of_lanes(squares[r]) / width_ + epsilon_);
  }

  template <int Rows>
  REFORMER_INLINE void apply_to(const float* rows, float* to) const {
    Moments moments[Rows];
    find_moments<Rows>(rows, moments);
    for (std::int64_t i = 0; i < width_; i += kLanes) {
      const Floats weight = load(weight_ + i), bias = load(bias_ + i);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const std::int64_t at = r * width_ + i;
        store(to + at, moments[r].normalise(load(rows + at)) * weight + bias);
      }
    }
  }

  template <int Rows>
  REFORMER_INLINE void differentiate_rows(const float* rows, const float* gradients,
                                          float* row_gradients, float* weight_sums,
                                          float* bias_sums) const {
    Moments moments[Rows];
    find_moments<Rows>(rows, moments);
    Floats totals[Rows] = {}, slopes[Rows] = {};
    for (std::int64_t i = 0; i < width_; i += kLanes) {
      const Floats weight = load(weight_ + i);
      Floats weight_sum = load(weight_sums + i), bias_sum = load(bias_sums + i);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const std::int64_t at = r * width_ + i;
        const Floats x = moments[r].normalise(load(rows + at)), gradient = load(gradients + at);
        weight_sum = gradient * x + weight_sum;
        bias_sum = gradient + bias_sum;
        totals[r] = gradient * weight + totals[r];
        slopes[r] = gradient * weight * x + slopes[r];
      }
      store(weight_sums + i, weight_sum);
      store(bias_sums + i, bias_sum);
    }
    float shifts[Rows], tilts[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      shifts[r] = sum_of_lanes(totals[r]) / width_;
      tilts[r] = sum_of_lanes(slopes[r]) / width_;
    }
    for (std::int64_t i = 0; i < width_; i += kLanes) {
      const Floats weight = load(weight_ + i);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const std::int64_t at = r * width_ + i;
        const Floats x = moments[r].normalise(load(rows + at));
        store(row_gradients + at,
              (load(gradients + at) * weight - shifts[r] - x * tilts[r]) * moments[r].scale);
      }
    }
  }

  const float *weight_, *bias_;  // [width]
  std::int64_t width_;
  float epsilon_;
};

}  // namespace reformer::REFORMER_ISA
