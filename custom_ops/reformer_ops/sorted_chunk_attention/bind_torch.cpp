// torch.ops.reformer.sorted_chunk_attention and its gradients on the CPU.
#include <cstdint>
#include <tuple>

#include "sorted_chunk_attention/arguments.h"
#include "torch_attention.h"

namespace reformer::torch_binding {
namespace {

Tensor sorted_chunk_attention(const Tensor& query_key, const Tensor& value, const Tensor& buckets,
                              const Tensor& mask, std::int64_t num_buckets,
                              std::int64_t chunk_length, std::int64_t num_chunks_before,
                              std::int64_t num_chunks_after, bool causal) {
  return std::get<0>(attention<SortedChunkAttention>(
      {query_key, value, buckets, mask},
      attention_attributes(num_buckets, chunk_length, num_chunks_before, num_chunks_after,
                           causal)));
}

std::tuple<Tensor, Tensor> sorted_chunk_attention_with_lse(
    const Tensor& query_key, const Tensor& value, const Tensor& buckets, const Tensor& mask,
    const Tensor& seed, std::int64_t num_buckets, std::int64_t chunk_length,
    std::int64_t num_chunks_before, std::int64_t num_chunks_after, bool causal, double dropout) {
  return attention<SortedChunkAttention>(
      {query_key, value, buckets, mask},
      attention_attributes(num_buckets, chunk_length, num_chunks_before, num_chunks_after, causal),
      &seed, dropout);
}

std::tuple<Tensor, Tensor> sorted_chunk_attention_backward(
    const Tensor& query_key, const Tensor& value, const Tensor& buckets, const Tensor& mask,
    const Tensor& seed, const Tensor& output, const Tensor& lse, const Tensor& gradient,
    std::int64_t num_buckets, std::int64_t chunk_length, std::int64_t num_chunks_before,
    std::int64_t num_chunks_after, bool causal, double dropout) {
  return std::tuple_cat(attention_backward<SortedChunkAttention, 2>(
      {query_key, value, buckets, mask},
      attention_attributes(num_buckets, chunk_length, num_chunks_before, num_chunks_after, causal),
      seed, output, lse, gradient, dropout));
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "sorted_chunk_attention(Tensor query_key, Tensor value, Tensor buckets, Tensor mask, int "
         "num_buckets, int chunk_length, int num_chunks_before, int num_chunks_after, bool causal) "
         "-> Tensor");
  define(library,
         "sorted_chunk_attention_with_lse(Tensor query_key, Tensor value, Tensor buckets, Tensor "
         "mask, Tensor seed, int num_buckets, int chunk_length, int num_chunks_before, int "
         "num_chunks_after, bool causal, float dropout) -> (Tensor, Tensor)");
  define(library,
         "sorted_chunk_attention_backward(Tensor query_key, Tensor value, Tensor buckets, Tensor "
         "mask, Tensor seed, Tensor output, Tensor lse, Tensor gradient, int num_buckets, int "
         "chunk_length, int num_chunks_before, int num_chunks_after, bool causal, float dropout) "
         "-> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("sorted_chunk_attention", TORCH_BOX(&sorted_chunk_attention));
  library.impl("sorted_chunk_attention_with_lse", TORCH_BOX(&sorted_chunk_attention_with_lse));
  library.impl("sorted_chunk_attention_backward", TORCH_BOX(&sorted_chunk_attention_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
