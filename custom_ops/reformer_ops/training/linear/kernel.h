// The products of linear layers and of their gradients, for training on the CPU.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace reformer {

struct LinearSizes {
  std::int64_t rows, in_features, out_features;
};

// Sets `output` [rows, out_features] to input [rows, in_features] times the transpose of `weight`
// [out_features, in_features]. All three functions throw Error if in_features is not a multiple of
// 16, the widest vector.
void linear(const LinearSizes& sizes, const float* input, const float* weight, float* output,
            const Parallel& parallel);

// Sets `input_gradient` [rows, in_features] to gradient [rows, out_features] times `weight`.
void linear_input_gradient(const LinearSizes& sizes, const float* gradient, const float* weight,
                           float* input_gradient, const Parallel& parallel);

// Sets `weight_gradient` [out_features, in_features] to the transpose of `gradient` times `input`.
void linear_weight_gradient(const LinearSizes& sizes, const float* gradient, const float* input,
                            float* weight_gradient, const Parallel& parallel);

}  // namespace reformer
