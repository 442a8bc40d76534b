// torch.ops.reformer.int8_linear on the CPU.
#include "int8_linear/arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

Tensor int8_linear(const Tensor& input, const Tensor& weight, const Tensor& scale,
                   const Tensor& bias) {
  return checked([&] {
    DeclaredOperands operands(Int8Linear::kTorchName, Int8Linear::kInputs,
                              {input, weight, scale, bias});
    const auto readable = operands.readable();
    Int8LinearArguments a = Int8Linear::arguments(operands.axes(), readable.pointers.data());
    const Tensor output = torch::stable::new_empty(
        readable.tensors[0], {operands.axes()["batch"], operands.axes()["length"], a.columns});
    a.dtype = operands.model().dtype();
    a.output = output.mutable_data_ptr();
    reformer::int8_linear(a, threads());
    return operands.model().returned(output);
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library, "int8_linear(Tensor input, Tensor weight, Tensor scale, Tensor bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("int8_linear", TORCH_BOX(&int8_linear));
}

}  // namespace
}  // namespace reformer::torch_binding
