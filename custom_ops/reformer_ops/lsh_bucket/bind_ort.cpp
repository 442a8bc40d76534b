// LshBucket for ONNX Runtime.
#include <cstdint>
#include <vector>

#include "lsh_bucket/arguments.h"
#include "ort_cpu.h"
#include "ort_cuda.h"

namespace reformer::ort {
namespace {

class LshBucket {
 public:
  static constexpr const char* kName = "LshBucket";
  static constexpr Operand kInputs[] = {
      {"query", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"rotations", Type::f32, {"heads", "head_dim", "num_hashes", "half_factors"}},
      {"mask", Type::boolean, {"batch", "length"}},
  };
  static constexpr Operand kOutputs[] = {
      {"buckets", Type::i32, {"batch", "heads", "num_hashes", "length"}}};
  static constexpr Attribute kAttributes[] = {{"factors", Attribute::Kind::integers}};

  explicit LshBucket(const Ort::ConstKernelInfo& node)
      : factors_(attributes<std::int64_t>(node, "factors")) {
    bucket_count(factors_.data(), factors_.size());  // refuses what it does not take
  }

  // What the operands must fulfil besides. Throws Error. (The kernel for the CPU checks it, too.)
  void check(Axes& axes) const { check_columns(axes, factors_); }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    const Ort::ConstValue query = context.GetInput(0), rotations = context.GetInput(1),
                          mask = context.GetInput(2);
    LshBucketArguments a{};
    set_sizes(a, shape_of(query), shape_of(rotations), shape_of(mask), factors_);
    a.dtype = dtype;
    a.query = query.GetTensorRawData();
    a.rotations = rotations.GetTensorData<float>();
    a.mask = mask_of(mask);
    a.buckets = context.GetOutput(0, {a.batch, a.heads, a.num_hashes, a.length})
                    .GetTensorMutableData<std::int32_t>();
    lsh_bucket(a, parallel_of(context));
  }

 private:
  std::vector<std::int64_t> factors_;
};

const CpuRegistration<LshBucket> on_cpu;
const CudaRegistration<LshBucket> on_cuda;

}  // namespace
}  // namespace reformer::ort
