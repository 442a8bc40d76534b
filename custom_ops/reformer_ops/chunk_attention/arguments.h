// The declaration of ChunkAttention, and the conversion of its operands to the kernel's arguments,
// for all bindings.
#pragma once

#include "chunk_attention/kernel.h"
#include "operands.h"

namespace reformer {

struct ChunkAttention {
  static constexpr const char* kName = "ChunkAttention";
  static constexpr const char* kTorchName = "chunk_attention";
  static constexpr Operand kInputs[] = {
      {"query", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"key", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"value", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"mask", Type::boolean, {"batch", "length"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "heads", "head_dim"}}};
  static constexpr Attribute kAttributes[] = {
      {"chunk_length"}, {"num_chunks_before"}, {"num_chunks_after"}, {"causal"}};

  static constexpr auto* kForward = &chunk_attention;
  static constexpr auto* kBackward = &chunk_attention_backward;

  // Sets the forward or the backward arguments; `inputs` are in the order of kInputs.
  template <typename Arguments>
  static void set_inputs(Arguments& arguments, const void* const* inputs) {
    using Numbers = decltype(arguments.query);
    arguments.query = static_cast<Numbers>(inputs[0]);
    arguments.key = static_cast<Numbers>(inputs[1]);
    arguments.value = static_cast<Numbers>(inputs[2]);
    arguments.mask = static_cast<const std::uint8_t*>(inputs[3]);
  }

  static void set_gradients(AttentionBackwardArguments& arguments, float* const (&gradients)[3]) {
    arguments.query_gradient = gradients[0];
    arguments.key_gradient = gradients[1];
    arguments.value_gradient = gradients[2];
  }
};

}  // namespace reformer
