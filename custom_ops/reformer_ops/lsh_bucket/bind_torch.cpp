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
    const ModelType model("lsh_bucket", "query", query);
    check_type("lsh_bucket", "rotations", rotations, ScalarType::Float, "float32");
    check_type("lsh_bucket", "mask", mask, ScalarType::Bool, "bool");
    LshBucketArguments a{};
    set_sizes(a, shape_of(query), shape_of(rotations), shape_of(mask), factors);
    const Tensor readable_query = model.readable(query),
                 readable_rotations = torch::stable::contiguous(rotations),
                 readable_mask = torch::stable::contiguous(mask);
    const Tensor buckets = torch::stable::new_empty(
        readable_query, {a.batch, a.heads, a.num_hashes, a.length}, ScalarType::Int);
    a.dtype = model.dtype();
    a.query = readable_query.const_data_ptr();
    a.rotations = static_cast<const float*>(readable_rotations.const_data_ptr());
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
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
