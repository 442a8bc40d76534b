// torch.ops.reformer.chunk_attention_step_ on the CPU.
#include <cstdint>

#include "chunk_attention_step/arguments.h"
#include "torch_step.h"

namespace reformer::torch_binding {
namespace {

Tensor chunk_attention_step(const Tensor& query, const Tensor& key, const Tensor& value,
                            const Tensor& past_key, const Tensor& past_value,
                            const Tensor& past_length, std::int64_t chunk_length,
                            std::int64_t num_chunks_before) {
  return step_in_place<ChunkAttentionStep, 6>(
      {query, key, value, past_key, past_value, past_length}, chunk_length, num_chunks_before);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "chunk_attention_step_(Tensor query, Tensor key, Tensor value, Tensor(a!) past_key, "
         "Tensor(b!) past_value, Tensor past_length, int chunk_length, int num_chunks_before) -> "
         "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("chunk_attention_step_", TORCH_BOX(&chunk_attention_step));
}

}  // namespace
}  // namespace reformer::torch_binding
