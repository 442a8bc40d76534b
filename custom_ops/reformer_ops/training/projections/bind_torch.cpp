// torch.ops.reformer.projections and its gradients on the CPU.
#include <cstdint>
#include <tuple>
#include <vector>

#include "torch_binding.h"
#include "training/projections/kernel.h"

namespace reformer::torch_binding {
namespace {

// The arguments, and the operands that they point to.
struct Projections {
  ProjectionsArguments arguments{};
  FloatOperands operands;

  Projections(const char* op, const Tensor& input, const Tensor& norm_weight,
              const Tensor& norm_bias, const std::vector<Tensor>& weights, double epsilon)
      : operands(op) {
    arguments.input = operands.read("input", {"rows", "hidden"}, input);
    arguments.norm_weight = operands.read("norm_weight", {"hidden"}, norm_weight);
    arguments.norm_bias = operands.read("norm_bias", {"hidden"}, norm_bias);
    if (weights.empty()) throw Error(std::string(op) + " takes one or more weights; got none");
    for (const Tensor& weight : weights)
      arguments.weights.push_back(operands.read("weights", {"width", "hidden"}, weight));
    arguments.epsilon = static_cast<float>(epsilon);
    arguments.rows = operands["rows"];
    arguments.hidden = operands["hidden"];
    arguments.width = operands["width"];
  }
};

std::vector<Tensor> projections(const Tensor& input, const Tensor& norm_weight,
                                const Tensor& norm_bias, const std::vector<Tensor>& weights,
                                double epsilon) {
  return checked([&] {
    const Projections call("projections", input, norm_weight, norm_bias, weights, epsilon);
    std::vector<Tensor> outputs;
    std::vector<float*> pointers;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      outputs.push_back(
          torch::stable::new_empty(input, {call.arguments.rows, call.arguments.width}));
      pointers.push_back(writable(outputs.back()));
    }
    reformer::projections(call.arguments, pointers, threads());
    return outputs;
  });
}

// Returns the gradients of input, norm_weight and norm_bias, then those of the weights.
std::vector<Tensor> projections_backward(const Tensor& input, const Tensor& norm_weight,
                                         const Tensor& norm_bias,
                                         const std::vector<Tensor>& weights,
                                         const std::vector<Tensor>& gradients, double epsilon) {
  return checked([&] {
    const char* op = "projections_backward";
    Projections call(op, input, norm_weight, norm_bias, weights, epsilon);
    if (gradients.size() != weights.size())
      throw Error(std::string(op) + " takes as many gradients as weights, " +
                  std::to_string(weights.size()) + "; got " + std::to_string(gradients.size()));
    ProjectionsGradients found{};
    for (const Tensor& gradient : gradients)
      found.outputs.push_back(call.operands.read("gradients", {"rows", "width"}, gradient));
    std::vector<Tensor> results;
    const auto made = [&](std::initializer_list<std::int64_t> shape) {
      results.push_back(torch::stable::new_empty(input, shape));
      return writable(results.back());
    };
    const ProjectionsArguments& a = call.arguments;
    found.input = made({a.rows, a.hidden});
    found.norm_weight = made({a.hidden});
    found.norm_bias = made({a.hidden});
    for (std::size_t i = 0; i < weights.size(); ++i)
      found.weights.push_back(made({a.width, a.hidden}));
    reformer::projections_backward(a, found, threads());
    return results;
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "projections(Tensor input, Tensor norm_weight, Tensor norm_bias, Tensor[] weights, "
         "float epsilon) -> Tensor[]");
  define(library,
         "projections_backward(Tensor input, Tensor norm_weight, Tensor norm_bias, "
         "Tensor[] weights, Tensor[] gradients, float epsilon) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("projections", TORCH_BOX(&projections));
  library.impl("projections_backward", TORCH_BOX(&projections_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
