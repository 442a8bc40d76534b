// LshBucket for ONNX Runtime.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "lsh_bucket/arguments.h"
#include "ort_cpu.h"
#include "ort_cuda.h"

namespace reformer::ort {
namespace {

class LshBucketNode : public LshBucket {
 public:
  explicit LshBucketNode(const Ort::ConstKernelInfo& node)
      : factors_(attributes<std::int64_t>(node, "factors")) {
    bucket_count(factors_.data(), factors_.size());  // throws Error for invalid factors
  }

  // Checks the rotations, for GPU kernels. Throws Error.
  void check(Axes& axes) const { check_columns(axes, factors_); }

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<LshBucket>(context);
    const auto inputs = raw_inputs<LshBucket>(context);
    LshBucketArguments a = arguments(axes, inputs.data(), factors_);
    a.dtype = dtype;
    a.buckets = context.GetOutput(0, {a.batch, a.heads, a.num_hashes, a.length})
                    .GetTensorMutableData<std::int32_t>();
    lsh_bucket(a, parallel_of(context));
  }

 private:
  std::vector<std::int64_t> factors_;
};

const CpuRegistration<LshBucketNode> on_cpu;
const CudaRegistration<LshBucketNode> on_cuda;

}  // namespace
}  // namespace reformer::ort
