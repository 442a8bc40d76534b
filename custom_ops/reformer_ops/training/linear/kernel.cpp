#include "training/linear/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "training/linear/kernel_isa.h"

namespace reformer {
namespace {

void check(const LinearSizes& sizes) {
  if (sizes.in_features % 16 != 0)
    throw Error("linear takes in_features that are a multiple of 16; got " +
                std::to_string(sizes.in_features));
}

}  // namespace

void linear(const LinearSizes& sizes, const float* input, const float* weight, float* output,
            const Parallel& parallel) {
  check(sizes);
  REFORMER_FOR_ISA(linear)(sizes, input, weight, output, parallel);
}

void linear_input_gradient(const LinearSizes& sizes, const float* gradient, const float* weight,
                           float* input_gradient, const Parallel& parallel) {
  check(sizes);
  REFORMER_FOR_ISA(linear_input_gradient)(sizes, gradient, weight, input_gradient, parallel);
}

void linear_weight_gradient(const LinearSizes& sizes, const float* gradient, const float* input,
                            float* weight_gradient, const Parallel& parallel) {
  check(sizes);
  REFORMER_FOR_ISA(linear_weight_gradient)(sizes, gradient, input, weight_gradient, parallel);
}

}  // namespace reformer
