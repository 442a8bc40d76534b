// A layer norm and the linear layers (without biases) that read it, in one pass over the rows: the
// part before attention. On the CPU, for training.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.h"

namespace reformer {

struct ProjectionsArguments {
  const float* input;                    // [rows, hidden]
  const float *norm_weight, *norm_bias;  // [hidden]
  float epsilon;
  std::vector<const float*> weights;  // each [width, hidden]
  std::int64_t rows, hidden, width;
};

struct ProjectionsGradients {
  std::vector<const float*> outputs;  // inputs, each [rows, width]; all others are results
  float* input;                       // [rows, hidden]
  float *norm_weight, *norm_bias;     // [hidden]
  std::vector<float*> weights;        // each [width, hidden]
};

// Both throw Error if `hidden` is not a multiple of 16, the widest vector. The first sets
// `outputs`, each [rows, width].
void projections(const ProjectionsArguments& arguments, const std::vector<float*>& outputs,
                 const Parallel& parallel);
void projections_backward(const ProjectionsArguments& arguments,
                          const ProjectionsGradients& gradients, const Parallel& parallel);

}  // namespace reformer
