// SortedChunkAttention for ONNX Runtime.
#include <cstdint>

#include "ort_binding.h"
#include "sorted_chunk_attention/arguments.h"

namespace reformer::ort {
namespace {

class SortedChunkAttention {
 public:
  static constexpr const char* kName = "SortedChunkAttention";
  static constexpr Type kInputs[] = {Type::model, Type::model, Type::i32, Type::boolean};
  static constexpr Type kOutput = Type::model;
  static constexpr AxisOf kOutputAxes[] = {{1, 0}, {1, 1}, {1, 2}, {1, 3}};

  explicit SortedChunkAttention(const Ort::ConstKernelInfo& node) {
    attributes_.num_buckets = attribute<std::int64_t>(node, "num_buckets");
    attributes_.chunk_length = attribute<std::int64_t>(node, "chunk_length");
    attributes_.num_chunks_before = attribute<std::int64_t>(node, "num_chunks_before");
    attributes_.num_chunks_after = attribute<std::int64_t>(node, "num_chunks_after");
    attributes_.causal = attribute<std::int64_t>(node, "causal") != 0;
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

const Registration<SortedChunkAttention> registration;

}  // namespace
}  // namespace reformer::ort
