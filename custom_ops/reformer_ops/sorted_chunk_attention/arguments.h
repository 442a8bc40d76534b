// The declaration of SortedChunkAttention, and the conversion of its operands to the kernel's
// arguments, for all bindings.
#pragma once

#include "operands.h"
#include "sorted_chunk_attention/kernel.h"

namespace reformer {

struct SortedChunkAttention {
  static constexpr const char* kName = "SortedChunkAttention";
  static constexpr const char* kTorchName = "sorted_chunk_attention";
  static constexpr Operand kInputs[] = {
      {"query_key", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"value", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"buckets", Type::i32, {"batch", "heads", "num_hashes", "length"}},
      {"mask", Type::boolean, {"batch", "length"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "heads", "head_dim"}}};
  static constexpr Attribute kAttributes[] = {
      {"num_buckets"}, {"chunk_length"}, {"num_chunks_before"}, {"num_chunks_after"}, {"causal"}};

  static constexpr auto* kForward = &sorted_chunk_attention;
  static constexpr auto* kBackward = &sorted_chunk_attention_backward;

  // For the forward or the backward arguments; `inputs` are in the order of kInputs.
  template <typename Arguments>
  static void set_inputs(Arguments& arguments, const void* const* inputs) {
    using Numbers = decltype(arguments.query);
    arguments.query = arguments.key = static_cast<Numbers>(inputs[0]);
    arguments.value = static_cast<Numbers>(inputs[1]);
    arguments.buckets = static_cast<const std::int32_t*>(inputs[2]);
    arguments.mask = static_cast<const std::uint8_t*>(inputs[3]);
  }

  static void set_gradients(AttentionBackwardArguments& arguments, float* const (&gradients)[2]) {
    arguments.query_gradient = arguments.key_gradient = gradients[0];
    arguments.value_gradient = gradients[1];
    arguments.shared = true;
  }
};

}  // namespace reformer
