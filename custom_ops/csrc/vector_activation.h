// Activation functions of vectors.
#pragma once

#include "activation.h"
#include "simd.h"

namespace reformer::REFORMER_ISA {

REFORMER_INLINE Floats absolute(Floats x) {
  return reinterpret_cast<Floats>(reinterpret_cast<Bits>(x) & 0x7fffffffu);
}

// 1 / (1 + e**-x)
REFORMER_INLINE Floats sigmoid(Floats x) {
  const Floats small = exp_of_negative(-absolute(x));
  return (x < Floats{} ? small : broadcast(1.0f)) / (small + 1.0f);
}

// x times the distribution function of the normal distribution. Uses the approximation of the error
// function by Abramowitz and Stegun, 7.1.26, with an error of at most 1.5e-7.
REFORMER_INLINE Floats gelu(Floats x) {
  const Floats z = absolute(x) * 0.70710678118654752f;
  const Floats t = 1.0f / (z * 0.3275911f + 1.0f);
  Floats series = broadcast(1.061405429f);
  series = series * t - 1.453152027f;
  series = series * t + 1.421413741f;
  series = series * t - 0.284496736f;
  series = series * t + 0.254829592f;
  // The probability of numbers above |x|.
  const Floats tail = series * t * exp_of_negative(-(z * z)) * 0.5f;
  return x * (x < Floats{} ? tail : 1.0f - tail);
}

// The tanh approximation of gelu. (1 + tanh(y)) / 2 is sigmoid(2 y).
REFORMER_INLINE Floats gelu_tanh(Floats x) {
  return x * sigmoid(x * (x * x * 0.044715f + 1.0f) * 1.5957691216057308f);
}

template <typename Function>
REFORMER_INLINE void apply(float* numbers, std::int64_t count, Function&& function) {
  for (std::int64_t i = 0; i < count; i += kLanes) store(numbers + i, function(load(numbers + i)));
}

// Applies the activation to `count` numbers in place; `count` is a multiple of kLanes.
inline void activate(Activation activation, float* numbers, std::int64_t count) {
  switch (activation) {
    case Activation::linear:
      return;
    case Activation::relu:
      return apply(numbers, count, [](Floats x) REFORMER_LAMBDA {
        return x < Floats{} ? Floats{} : x;  // NaN stays NaN
      });
    case Activation::gelu:
      return apply(numbers, count, [](Floats x) REFORMER_LAMBDA { return gelu(x); });
    case Activation::gelu_tanh:
      return apply(numbers, count, [](Floats x) REFORMER_LAMBDA { return gelu_tanh(x); });
    case Activation::silu:
      return apply(numbers, count, [](Floats x) REFORMER_LAMBDA { return x * sigmoid(x); });
  }
}

}  // namespace reformer::REFORMER_ISA
