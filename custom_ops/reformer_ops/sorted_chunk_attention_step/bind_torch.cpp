// torch.ops.reformer.sorted_chunk_attention_step_ on the CPU.
#include <cstdint>

#include "sorted_chunk_attention_step/arguments.h"
#include "torch_step.h"

namespace reformer::torch_binding {
namespace {

Tensor sorted_chunk_attention_step(const Tensor& query_key, const Tensor& value,
                                   const Tensor& buckets, const Tensor& past_key,
                                   const Tensor& past_value, const Tensor& past_buckets,
                                   const Tensor& past_order, const Tensor& past_starts,
                                   const Tensor& past_length, const Tensor& attend_all,
                                   std::int64_t chunk_length, std::int64_t num_chunks_before) {
  return step_in_place<SortedChunkAttentionStep, 10>(
      {query_key, value, buckets, past_key, past_value, past_buckets, past_order, past_starts,
       past_length, attend_all},
      chunk_length, num_chunks_before);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "sorted_chunk_attention_step_(Tensor query_key, Tensor value, Tensor buckets, "
         "Tensor(a!) past_key, Tensor(b!) past_value, Tensor(c!) past_buckets, "
         "Tensor(d!) past_order, Tensor(e!) past_starts, Tensor past_length, Tensor attend_all, "
         "int chunk_length, int num_chunks_before) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("sorted_chunk_attention_step_", TORCH_BOX(&sorted_chunk_attention_step));
}

}  // namespace
}  // namespace reformer::torch_binding
