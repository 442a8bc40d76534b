// AddNorm for ONNX Runtime, on GPUs only. On CPUs, the runtime runs the function in model.onnx.
#include "ort_cuda.h"

namespace reformer::ort {
namespace {

class AddNorm {
 public:
  static constexpr const char* kName = "AddNorm";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"update", Type::model, {"batch", "length", "hidden"}},
      {"weight", Type::model, {"hidden"}},
      {"bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"sum", Type::model, {"batch", "length", "hidden"}},
      {"normed", Type::model, {"batch", "length", "hidden"}},
  };
  static constexpr Attribute kAttributes[] = {{"epsilon", Attribute::Kind::number}};

  explicit AddNorm(const Ort::ConstKernelInfo&) {}
  void check(Axes&) const {}
};

const CudaRegistration<AddNorm> on_cuda{Without::function};

}  // namespace
}  // namespace reformer::ort
