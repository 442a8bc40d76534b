// torch.ops.reformer.sorted_chunk_attention on the CPU.
#include <cstdint>

#include "sorted_chunk_attention/arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

Tensor sorted_chunk_attention(const Tensor& query_key, const Tensor& value, const Tensor& buckets,
                              const Tensor& mask, std::int64_t num_buckets,
                              std::int64_t chunk_length, std::int64_t num_chunks_before,
                              std::int64_t num_chunks_after, bool causal) {
  return checked([&] {
    const ModelType model("sorted_chunk_attention", "query_key", query_key);
    model.check("value", value);
    check_type("sorted_chunk_attention", "buckets", buckets, ScalarType::Int, "int32");
    check_type("sorted_chunk_attention", "mask", mask, ScalarType::Bool, "bool");
    SortedChunkAttentionArguments a{};
    set_sizes(a, shape_of(query_key), shape_of(value), shape_of(buckets), shape_of(mask));
    const Tensor readable_query_key = model.readable(query_key),
                 readable_value = model.readable(value),
                 readable_buckets = torch::stable::contiguous(buckets),
                 readable_mask = torch::stable::contiguous(mask);
    const Tensor output =
        torch::stable::new_empty(readable_value, {a.batch, a.length, a.heads, a.head_dim});
    a.dtype = model.dtype();
    a.query_key = readable_query_key.const_data_ptr();
    a.value = readable_value.const_data_ptr();
    a.buckets = static_cast<const std::int32_t*>(readable_buckets.const_data_ptr());
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.output = output.mutable_data_ptr();
    a.num_buckets = num_buckets;
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.causal = causal;
    reformer::sorted_chunk_attention(a, threads());
    return model.returned(output);
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "sorted_chunk_attention(Tensor query_key, Tensor value, Tensor buckets, Tensor mask, "
         "int num_buckets, int chunk_length, int num_chunks_before, int num_chunks_after, "
         "bool causal) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("sorted_chunk_attention", TORCH_BOX(&sorted_chunk_attention));
}

}  // namespace
}  // namespace reformer::torch_binding
