// torch.ops.reformer.chunk_attention and its gradients on the CPU.
#include <cstdint>
#include <tuple>

#include "chunk_attention/arguments.h"
#include "torch_attention.h"

namespace reformer::torch_binding {
namespace {

Tensor chunk_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                       const Tensor& mask, std::int64_t chunk_length,
                       std::int64_t num_chunks_before, std::int64_t num_chunks_after, bool causal) {
  return std::get<0>(attention<ChunkAttention>(
      {query, key, value, mask},
      attention_attributes(1, chunk_length, num_chunks_before, num_chunks_after, causal)));
}

std::tuple<Tensor, Tensor> chunk_attention_with_lse(const Tensor& query, const Tensor& key,
                                                    const Tensor& value, const Tensor& mask,
                                                    const Tensor& seed, std::int64_t chunk_length,
                                                    std::int64_t num_chunks_before,
                                                    std::int64_t num_chunks_after, bool causal,
                                                    double dropout) {
  return attention<ChunkAttention>(
      {query, key, value, mask},
      attention_attributes(1, chunk_length, num_chunks_before, num_chunks_after, causal), &seed,
      dropout);
}

std::tuple<Tensor, Tensor, Tensor> chunk_attention_backward(
    const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
    const Tensor& seed, const Tensor& output, const Tensor& lse, const Tensor& gradient,
    std::int64_t chunk_length, std::int64_t num_chunks_before, std::int64_t num_chunks_after,
    bool causal, double dropout) {
  return std::tuple_cat(attention_backward<ChunkAttention, 3>(
      {query, key, value, mask},
      attention_attributes(1, chunk_length, num_chunks_before, num_chunks_after, causal), seed,
      output, lse, gradient, dropout));
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "chunk_attention(Tensor query, Tensor key, Tensor value, Tensor mask, int chunk_length, "
         "int num_chunks_before, int num_chunks_after, bool causal) -> Tensor");
  define(library,
         "chunk_attention_with_lse(Tensor query, Tensor key, Tensor value, Tensor mask, Tensor "
         "seed, int chunk_length, int num_chunks_before, int num_chunks_after, bool causal, float "
         "dropout) -> (Tensor, Tensor)");
  define(
      library,
      "chunk_attention_backward(Tensor query, Tensor key, Tensor value, Tensor mask, Tensor seed, "
      "Tensor output, Tensor lse, Tensor gradient, int chunk_length, int num_chunks_before, int "
      "num_chunks_after, bool causal, float dropout) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("chunk_attention", TORCH_BOX(&chunk_attention));
  library.impl("chunk_attention_with_lse", TORCH_BOX(&chunk_attention_with_lse));
  library.impl("chunk_attention_backward", TORCH_BOX(&chunk_attention_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
