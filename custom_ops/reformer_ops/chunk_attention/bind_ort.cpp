// ChunkAttention for ONNX Runtime.
#include <cstdint>

#include "chunk_attention/arguments.h"
#include "chunking.h"
#include "ort_cpu.h"
#include "ort_cuda.h"

namespace reformer::ort {
namespace {

class ChunkAttention {
 public:
  static constexpr const char* kName = "ChunkAttention";
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

  explicit ChunkAttention(const Ort::ConstKernelInfo& node) {
    attributes_.chunk_length = attribute<std::int64_t>(node, "chunk_length");
    attributes_.num_chunks_before = attribute<std::int64_t>(node, "num_chunks_before");
    attributes_.num_chunks_after = attribute<std::int64_t>(node, "num_chunks_after");
    attributes_.causal = attribute<std::int64_t>(node, "causal") != 0;
  }

  // What the operands must fulfil besides. Throws Error. (The kernel for the CPU checks it, too.)
  void check(Axes& axes) const {
    check_chunking("chunk_attention", axes["length"], attributes_.chunk_length,
                   attributes_.num_chunks_before, attributes_.num_chunks_after);
  }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    const Ort::ConstValue query = context.GetInput(0), key = context.GetInput(1),
                          value = context.GetInput(2), mask = context.GetInput(3);
    ChunkAttentionArguments a = attributes_;
    set_sizes(a, shape_of(query), shape_of(key), shape_of(value), shape_of(mask));
    a.dtype = dtype;
    a.query = query.GetTensorRawData();
    a.key = key.GetTensorRawData();
    a.value = value.GetTensorRawData();
    a.mask = mask_of(mask);
    a.output =
        context.GetOutput(0, {a.batch, a.length, a.heads, a.head_dim}).GetTensorMutableRawData();
    chunk_attention(a, parallel_of(context));
  }

 private:
  ChunkAttentionArguments attributes_{};
};

const CpuRegistration<ChunkAttention> on_cpu;
const CudaRegistration<ChunkAttention> on_cuda;

}  // namespace
}  // namespace reformer::ort
