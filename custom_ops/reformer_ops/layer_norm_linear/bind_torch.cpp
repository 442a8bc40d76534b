// torch.ops.reformer.layer_norm_linear on the CPU.
#include "layer_norm_linear/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor layer_norm_linear(const Tensor& input, const Tensor& norm_weight, const Tensor& norm_bias,
                         const Tensor& weight, double epsilon) {
  return run_linear<LayerNormLinear>(
      std::array{input, norm_weight, norm_bias, weight},
      [&](Axes& axes, const void* const* inputs) {
        return LayerNormLinear::arguments(axes, inputs, static_cast<float>(epsilon));
      },
      [](const LayerNormLinearArguments& a) { return a.columns; }, reformer::layer_norm_linear);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "layer_norm_linear(Tensor input, Tensor norm_weight, Tensor norm_bias, Tensor weight, "
         "float epsilon) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("layer_norm_linear", TORCH_BOX(&layer_norm_linear));
}

}  // namespace
}  // namespace reformer::torch_binding
