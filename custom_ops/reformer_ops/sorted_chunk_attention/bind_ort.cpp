// SortedChunkAttention for ONNX Runtime.
#include <cstdint>

#include "chunking.h"
#include "ort_cpu.h"
#include "ort_cuda.h"
#include "sorted_chunk_attention/arguments.h"

namespace reformer::ort {
namespace {

class SortedChunkAttention {
 public:
  static constexpr const char* kName = "SortedChunkAttention";
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

  explicit SortedChunkAttention(const Ort::ConstKernelInfo& node) {
    attributes_.num_buckets = attribute<std::int64_t>(node, "num_buckets");
    attributes_.chunk_length = attribute<std::int64_t>(node, "chunk_length");
    attributes_.num_chunks_before = attribute<std::int64_t>(node, "num_chunks_before");
    attributes_.num_chunks_after = attribute<std::int64_t>(node, "num_chunks_after");
    attributes_.causal = attribute<std::int64_t>(node, "causal") != 0;
  }

  // What the operands must fulfil besides. Throws Error. (The kernel for the CPU checks it, too.)
  void check(Axes& axes) const {
    check_chunking("sorted_chunk_attention", axes["length"], attributes_.chunk_length,
                   attributes_.num_chunks_before, attributes_.num_chunks_after);
  }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    const Ort::ConstValue query_key = context.GetInput(0), value = context.GetInput(1),
                          buckets = context.GetInput(2), mask = context.GetInput(3);
    SortedChunkAttentionArguments a = attributes_;
    set_sizes(a, shape_of(query_key), shape_of(value), shape_of(buckets), shape_of(mask));
    a.dtype = dtype;
    a.query_key = query_key.GetTensorRawData();
    a.value = value.GetTensorRawData();
    a.buckets = buckets.GetTensorData<std::int32_t>();
    a.mask = mask_of(mask);
    a.output =
        context.GetOutput(0, {a.batch, a.length, a.heads, a.head_dim}).GetTensorMutableRawData();
    sorted_chunk_attention(a, parallel_of(context));
  }

 private:
  SortedChunkAttentionArguments attributes_{};
};

const CpuRegistration<SortedChunkAttention> on_cpu;
const CudaRegistration<SortedChunkAttention> on_cuda;

}  // namespace
}  // namespace reformer::ort
