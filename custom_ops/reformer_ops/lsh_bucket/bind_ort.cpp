// LshBucket for ONNX Runtime.
#include <cstdint>
#include <vector>

#include "lsh_bucket/arguments.h"
#include "ort_binding.h"

namespace reformer::ort {
namespace {

class LshBucket {
 public:
  static constexpr const char* kName = "LshBucket";
  static constexpr Type kInputs[] = {Type::model, Type::f32, Type::boolean};
  static constexpr Type kOutput = Type::i32;
  static constexpr AxisOf kOutputAxes[] = {{0, 0}, {0, 2}, {1, 2}, {0, 1}};

  explicit LshBucket(const Ort::ConstKernelInfo& node)
      : factors_(attributes<std::int64_t>(node, "factors")) {
    bucket_count(factors_.data(), factors_.size());  // refuses what it does not take
  }

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

const Registration<LshBucket> registration;

}  // namespace
}  // namespace reformer::ort
