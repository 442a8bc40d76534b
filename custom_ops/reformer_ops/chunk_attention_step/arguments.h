// The declaration of ChunkAttentionStep, and the conversion of its operands to the kernel's
// arguments.
#pragma once

#include "chunk_attention_step/kernel.h"
#include "operands.h"

namespace reformer {

struct ChunkAttentionStep {
  static constexpr const char* kName = "ChunkAttentionStep";
  static constexpr const char* kTorchName = "chunk_attention_step";
  static constexpr Operand kInputs[] = {
      {"query", Type::model, {"batch", "heads", "head_dim"}},
      {"key", Type::model, {"batch", "heads", "head_dim"}},
      {"value", Type::model, {"batch", "heads", "head_dim"}},
      {"past_key", Type::model, {"batch", "window", "heads", "head_dim"}},
      {"past_value", Type::model, {"batch", "window", "heads", "head_dim"}},
      {"past_length", Type::i32, {"batch"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "heads", "head_dim"}},
      {"present_key", Type::model, {"batch", "window", "heads", "head_dim"}},
      {"present_value", Type::model, {"batch", "window", "heads", "head_dim"}},
  };
  static constexpr Attribute kAttributes[] = {{"chunk_length"}, {"num_chunks_before"}};

  // `inputs` are in the order of kInputs, `outputs` in the order of kOutputs.
  static void set(ChunkStepArguments& a, Axes& axes, const void* const* inputs,
                  void* const* outputs) {
    a.query = inputs[0];
    a.key = inputs[1];
    a.value = inputs[2];
    a.past_key = inputs[3];
    a.past_value = inputs[4];
    a.past_length = static_cast<const std::int32_t*>(inputs[5]);
    a.output = outputs[0];
    a.present_key = outputs[1];
    a.present_value = outputs[2];
    a.batch = axes["batch"];
    a.heads = axes["heads"];
    a.head_dim = axes["head_dim"];
    a.window = axes["window"];
  }

  static constexpr auto* kForward = &chunk_attention_step;
  using Arguments = ChunkStepArguments;
};

}  // namespace reformer
