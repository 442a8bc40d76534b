// torch.ops.reformer.linear and its gradients on the CPU.
#include <cstdint>

#include "torch_binding.h"
#include "training/linear/kernel.h"

namespace reformer::torch_binding {
namespace {

LinearSizes sizes_of(FloatOperands& operands) {
  return {operands["rows"], operands["in_features"], operands["out_features"]};
}

Tensor linear(const Tensor& input, const Tensor& weight) {
  return checked([&] {
    FloatOperands operands("linear");
    const float* rows = operands.read("input", {"rows", "in_features"}, input);
    const float* matrix = operands.read("weight", {"out_features", "in_features"}, weight);
    const LinearSizes sizes = sizes_of(operands);
    const Tensor output = torch::stable::new_empty(input, {sizes.rows, sizes.out_features});
    reformer::linear(sizes, rows, matrix, writable(output), threads());
    return output;
  });
}

Tensor linear_input_gradient(const Tensor& gradient, const Tensor& weight) {
  return checked([&] {
    FloatOperands operands("linear_input_gradient");
    const float* rows = operands.read("gradient", {"rows", "out_features"}, gradient);
    const float* matrix = operands.read("weight", {"out_features", "in_features"}, weight);
    const LinearSizes sizes = sizes_of(operands);
    const Tensor result = torch::stable::new_empty(gradient, {sizes.rows, sizes.in_features});
    reformer::linear_input_gradient(sizes, rows, matrix, writable(result), threads());
    return result;
  });
}

Tensor linear_weight_gradient(const Tensor& gradient, const Tensor& input) {
  return checked([&] {
    FloatOperands operands("linear_weight_gradient");
    const float* left = operands.read("gradient", {"rows", "out_features"}, gradient);
    const float* right = operands.read("input", {"rows", "in_features"}, input);
    const LinearSizes sizes = sizes_of(operands);
    const Tensor result = torch::stable::new_empty(input, {sizes.out_features, sizes.in_features});
    reformer::linear_weight_gradient(sizes, left, right, writable(result), threads());
    return result;
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library, "linear(Tensor input, Tensor weight) -> Tensor");
  define(library, "linear_input_gradient(Tensor gradient, Tensor weight) -> Tensor");
  define(library, "linear_weight_gradient(Tensor gradient, Tensor input) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("linear", TORCH_BOX(&linear));
  library.impl("linear_input_gradient", TORCH_BOX(&linear_input_gradient));
  library.impl("linear_weight_gradient", TORCH_BOX(&linear_weight_gradient));
}

}  // namespace
}  // namespace reformer::torch_binding
