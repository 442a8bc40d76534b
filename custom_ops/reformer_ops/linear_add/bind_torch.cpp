// torch.ops.reformer.linear_add on the CPU.
#include "linear_add/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor linear_add(const Tensor& residual, const Tensor& input, const Tensor& weight) {
  return run_linear<LinearAdd>(
      std::array{residual, input, weight}, LinearAdd::arguments,
      [](const LinearAddArguments& a) { return a.hidden; }, reformer::linear_add);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library, "linear_add(Tensor residual, Tensor input, Tensor weight) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("linear_add", TORCH_BOX(&linear_add));
}

}  // namespace
}  // namespace reformer::torch_binding
