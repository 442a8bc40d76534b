// Both attentions for ONNX Runtime.
#pragma once

#include <cstdint>
#include <string>

#include "attention_arguments.h"
#include "ort_cpu.h"
#include "ort_cuda.h"

namespace reformer::ort {

// One node. Attention is ChunkAttention or SortedChunkAttention.
template <typename Attention>
class AttentionNode : public Attention {
 public:
  explicit AttentionNode(const Ort::ConstKernelInfo& node) {
    const auto integer = [&](const char* name) { return attribute<std::int64_t>(node, name); };
    if (Attention::kAttributes[0].name == std::string("num_buckets"))
      attributes_.num_buckets = integer("num_buckets");
    attributes_.chunk_length = integer("chunk_length");
    attributes_.num_chunks_before = integer("num_chunks_before");
    attributes_.num_chunks_after = integer("num_chunks_after");
    attributes_.causal = integer("causal") != 0;
  }

  // Checks the length, for GPU kernels. Throws Error. (CPU kernels check it themselves.)
  void check(Axes& axes) const {
    AttentionSizes sizes = attributes_;
    sizes.length = axes["length"];
    apply_chunking(Attention::kTorchName, sizes);
  }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    AttentionArguments a{attributes_};
    Axes axes = check_inputs<Attention>(context);
    a.set_axes(axes);
    Attention::set_inputs(a, raw_inputs<Attention>(context).data());
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {a.batch, a.length, a.heads, a.head_dim}).GetTensorMutableRawData();
    Attention::kForward(a, parallel_of(context));
  }

 private:
  AttentionSizes attributes_;
};

// A static object of this type registers an attention in the library.
template <typename Attention>
struct AttentionRegistration {
  CpuRegistration<AttentionNode<Attention>> on_cpu;
  CudaRegistration<AttentionNode<Attention>> on_cuda;
};

}  // namespace reformer::ort
