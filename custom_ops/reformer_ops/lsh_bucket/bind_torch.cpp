// torch.ops.reformer.lsh_bucket on the CPU.
#include <cstdint>
#include <vector>

#include "lsh_bucket/arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

Tensor lsh_bucket(const Tensor& query, const Tensor& rotations, const Tensor& mask,
                  const std::vector<std::int64_t>& factors) {
  return checked([&] {
    DeclaredOperands operands(LshBucket::kTorchName, LshBucket::kInputs, {query, rotations, mask});
    const auto readable = operands.readable();
    LshBucketArguments a = LshBucket::arguments(operands.axes(), readable.pointers.data(), factors);
    const Tensor buckets = torch::stable::new_empty(
        query, {a.batch, a.heads, a.num_hashes, a.length}, ScalarType::Int);
    a.dtype = operands.model().dtype();
    a.buckets = static_cast<std::int32_t*>(buckets.mutable_data_ptr());
    reformer::lsh_bucket(a, threads());
    return buckets;
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "lsh_bucket(Tensor query, Tensor rotations, Tensor mask, int[] factors) -> "
         "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("lsh_bucket", TORCH_BOX(&lsh_bucket));
}

}  // namespace
}  // namespace reformer::torch_binding
