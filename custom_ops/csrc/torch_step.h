// Both decoding steps on the CPU, for torch. They change the given cache in place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

#include "chunking.h"
#include "torch_binding.h"

namespace reformer::torch_binding {

// The index of the input whose buffer is also the output: past_key for present_key.
template <typename Step>
std::size_t past_of(const Operand& present) {
  const std::string past = "past" + std::string(present.name).substr(std::string("present").size());
  std::size_t index = 0;
  while (Step::kInputs[index].name != past) ++index;
  return index;
}

// Returns the output of the new token. Step is ChunkAttentionStep or SortedChunkAttentionStep.
template <typename Step, std::size_t Count>
Tensor step_in_place(const std::array<Tensor, Count>& inputs, std::int64_t chunk_length,
                     std::int64_t num_chunks_before) {
  return checked([&] {
    check_window(Step::kTorchName, chunk_length, num_chunks_before);
    DeclaredOperands operands(Step::kTorchName, Step::kInputs, inputs);
    const auto readable = operands.readable();
    const Tensor output = torch::stable::new_empty(readable.tensors[0], shape_of(inputs[0]));
    std::array<void*, std::size(Step::kOutputs)> outputs{output.mutable_data_ptr()};
    for (std::size_t i = 1; i < outputs.size(); ++i) {
      const std::size_t past = past_of<Step>(Step::kOutputs[i]);
      if (readable.pointers[past] != inputs[past].const_data_ptr())
        throw Error(std::string(Step::kTorchName) + " in place takes a contiguous " +
                    Step::kInputs[past].name + " of float32 or float16: these kernels change it");
      outputs[i] = inputs[past].mutable_data_ptr();
    }
    typename Step::Arguments arguments{};
    Step::set(arguments, operands.axes(), readable.pointers.data(), outputs.data());
    arguments.chunk_length = chunk_length;
    arguments.num_chunks_before = num_chunks_before;
    arguments.dtype = operands.model().dtype();
    Step::kForward(arguments, threads());
    return output;
  });
}

}  // namespace reformer::torch_binding
