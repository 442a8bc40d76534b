// torch.ops.reformer.chunk_attention on the CPU.
#include <cstdint>

#include "chunk_attention/arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

Tensor chunk_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                       const Tensor& mask, std::int64_t chunk_length,
                       std::int64_t num_chunks_before, std::int64_t num_chunks_after, bool causal) {
  return checked([&] {
    const ModelType model("chunk_attention", "query", query);
    model.check("key", key);
    model.check("value", value);
    check_type("chunk_attention", "mask", mask, ScalarType::Bool, "bool");
    ChunkAttentionArguments a{};
    set_sizes(a, shape_of(query), shape_of(key), shape_of(value), shape_of(mask));
    const Tensor readable_query = model.readable(query), readable_key = model.readable(key),
                 readable_value = model.readable(value),
                 readable_mask = torch::stable::contiguous(mask);
    const Tensor output =
        torch::stable::new_empty(readable_query, {a.batch, a.length, a.heads, a.head_dim});
    a.dtype = model.dtype();
    a.query = readable_query.const_data_ptr();
    a.key = readable_key.const_data_ptr();
    a.value = readable_value.const_data_ptr();
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.output = output.mutable_data_ptr();
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.causal = causal;
    reformer::chunk_attention(a, threads());
    return model.returned(output);
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "chunk_attention(Tensor query, Tensor key, Tensor value, Tensor mask, int chunk_length, "
         "int num_chunks_before, int num_chunks_after, bool causal) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("chunk_attention", TORCH_BOX(&chunk_attention));
}

}  // namespace
}  // namespace reformer::torch_binding
