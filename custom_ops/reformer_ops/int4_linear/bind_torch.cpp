// torch.ops.reformer.int4_linear on the CPU.
#include "int4_linear/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor int4_linear(const Tensor& input, const Tensor& weight, const Tensor& step,
                   const Tensor& scale, const Tensor& bias) {
  return run_linear<Int4Linear>(
      std::array{input, weight, step, scale, bias}, Int4Linear::arguments,
      [](const Int4LinearArguments& a) { return a.columns; }, reformer::int4_linear);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(
      library,
      "int4_linear(Tensor input, Tensor weight, Tensor step, Tensor scale, Tensor bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("int4_linear", TORCH_BOX(&int4_linear));
}

}  // namespace
}  // namespace reformer::torch_binding
