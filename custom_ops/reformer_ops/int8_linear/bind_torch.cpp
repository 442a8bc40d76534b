// torch.ops.reformer.int8_linear on the CPU.
#include "int8_linear/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor int8_linear(const Tensor& input, const Tensor& weight, const Tensor& scale,
                   const Tensor& bias) {
  return run_linear<Int8Linear>(
      std::array{input, weight, scale, bias}, Int8Linear::arguments,
      [](const Int8LinearArguments& a) { return a.columns; }, reformer::int8_linear);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library, "int8_linear(Tensor input, Tensor weight, Tensor scale, Tensor bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("int8_linear", TORCH_BOX(&int8_linear));
}

}  // namespace
}  // namespace reformer::torch_binding
