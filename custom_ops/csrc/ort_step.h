// Both decoding steps for ONNX Runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "chunking.h"
#include "ort_cpu.h"

namespace reformer::ort {

// One node. Step is ChunkAttentionStep or SortedChunkAttentionStep. A past and its present may be
// the same buffer: the kernel then adds the new token in place.
template <typename Step>
class StepNode : public Step {
 public:
  explicit StepNode(const Ort::ConstKernelInfo& node)
      : chunk_length_(attribute<std::int64_t>(node, "chunk_length")),
        num_chunks_before_(attribute<std::int64_t>(node, "num_chunks_before")) {
    check_window(Step::kTorchName, chunk_length_, num_chunks_before_);
  }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Step>(context);
    std::array<void*, std::size(Step::kOutputs)> outputs;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      Shape shape;
      for (const char* name : Step::kOutputs[i].axes()) shape.push_back(axes[name]);
      outputs[i] = context.GetOutput(i, shape).GetTensorMutableRawData();
    }
    typename Step::Arguments arguments{};
    Step::set(arguments, axes, raw_inputs<Step>(context).data(), outputs.data());
    arguments.chunk_length = chunk_length_;
    arguments.num_chunks_before = num_chunks_before_;
    arguments.dtype = dtype;
    Step::kForward(arguments, parallel_of(context));
  }

 private:
  std::int64_t chunk_length_, num_chunks_before_;
};

}  // namespace reformer::ort
