// The declaration of SortedChunkAttentionStep, and the conversion of its operands to the kernel's
// arguments.
#pragma once

#include "operands.h"
#include "sorted_chunk_attention_step/kernel.h"

namespace reformer {

struct SortedChunkAttentionStep {
  static constexpr const char* kName = "SortedChunkAttentionStep";
  static constexpr const char* kTorchName = "sorted_chunk_attention_step";
  static constexpr Operand kInputs[] = {
      {"query_key", Type::model, {"batch", "heads", "head_dim"}},
      {"value", Type::model, {"batch", "heads", "head_dim"}},
      {"buckets", Type::i32, {"batch", "heads", "num_hashes"}},
      {"past_key", Type::model, {"batch", "capacity", "heads", "head_dim"}},
      {"past_value", Type::model, {"batch", "capacity", "heads", "head_dim"}},
      {"past_buckets", Type::i32, {"batch", "heads", "num_hashes", "capacity"}},
      {"past_order", Type::i32, {"batch", "heads", "num_hashes", "blocks", "block_length"}},
      {"past_starts", Type::i32, {"batch", "heads", "num_hashes", "blocks"}},
      {"past_length", Type::i32, {"batch"}},
      {"attend_all", Type::boolean, {"batch"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "heads", "head_dim"}},
      {"present_key", Type::model, {"batch", "capacity", "heads", "head_dim"}},
      {"present_value", Type::model, {"batch", "capacity", "heads", "head_dim"}},
      {"present_buckets", Type::i32, {"batch", "heads", "num_hashes", "capacity"}},
      {"present_order", Type::i32, {"batch", "heads", "num_hashes", "blocks", "block_length"}},
      {"present_starts", Type::i32, {"batch", "heads", "num_hashes", "blocks"}},
  };
  static constexpr Attribute kAttributes[] = {{"chunk_length"}, {"num_chunks_before"}};

  // `inputs` are in the order of kInputs, `outputs` in that of kOutputs.
  static void set(SortedStepArguments& a, Axes& axes, const void* const* inputs,
                  void* const* outputs) {
    a.query_key = inputs[0];
    a.value = inputs[1];
    a.buckets = static_cast<const std::int32_t*>(inputs[2]);
    a.past_key = inputs[3];
    a.past_value = inputs[4];
    a.past_buckets = static_cast<const std::int32_t*>(inputs[5]);
    a.past_order = static_cast<const std::int32_t*>(inputs[6]);
    a.past_starts = static_cast<const std::int32_t*>(inputs[7]);
    a.past_length = static_cast<const std::int32_t*>(inputs[8]);
    a.attend_all = static_cast<const std::uint8_t*>(inputs[9]);
    a.output = outputs[0];
    a.present_key = outputs[1];
    a.present_value = outputs[2];
    a.present_buckets = static_cast<std::int32_t*>(outputs[3]);
    a.present_order = static_cast<std::int32_t*>(outputs[4]);
    a.present_starts = static_cast<std::int32_t*>(outputs[5]);
    a.batch = axes["batch"];
    a.heads = axes["heads"];
    a.head_dim = axes["head_dim"];
    a.num_hashes = axes["num_hashes"];
    a.capacity = axes["capacity"];
    a.blocks = axes["blocks"];
    a.block_length = axes["block_length"];
  }

  static constexpr auto* kForward = &sorted_chunk_attention_step;
  using Arguments = SortedStepArguments;
};

}  // namespace reformer
