// torch.ops.reformer.dropout on the CPU.
#include <cstdint>

#include "torch_binding.h"
#include "training/dropout/kernel.h"

namespace reformer::torch_binding {
namespace {

Tensor dropout(const Tensor& input, const Tensor& seed, double dropout) {
  return checked([&] {
    FloatOperands operands("dropout");
    const float* numbers = operands.read("input", {"rows", "columns"}, input);
    const std::int64_t rows = operands["rows"], columns = operands["columns"];
    const Tensor output = torch::stable::new_empty(input, {rows, columns});
    reformer::drop(dropout_from("dropout", seed, dropout), rows, columns, numbers, writable(output),
                   threads());
    return output;
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library, "dropout(Tensor input, Tensor seed, float dropout) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) { library.impl("dropout", TORCH_BOX(&dropout)); }

}  // namespace
}  // namespace reformer::torch_binding
