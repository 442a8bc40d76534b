// LinearAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in model.onnx.
#include "linear_add/kernel.h"
#include "ort_panels.h"

namespace reformer::ort {
namespace {

class LinearAdd {
 public:
  static constexpr const char* kName = "LinearAdd";
  static constexpr const char* kTorchName = "linear_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "depth"}},
      {"weight", Type::model, {"panels", "depth", "panel"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  // The output may be in the memory of the residual.
  static constexpr int kInPlace = 0;

  explicit LinearAdd(const Ort::ConstKernelInfo&) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<LinearAdd>(context);
    check_columns(axes, kTorchName, "panels", "hidden");
    const auto inputs = raw_inputs<LinearAdd>(context);
    const std::int64_t batch = axes["batch"], length = axes["length"];
    LinearAddArguments a{};
    a.residual = inputs[0];
    a.input = inputs[1];
    a.weight = inputs[2];
    a.rows = batch * length;
    a.depth = axes["depth"];
    a.hidden = axes["hidden"];
    a.dtype = dtype;
    a.output = context.GetOutput(0, {batch, length, a.hidden}).GetTensorMutableRawData();
    linear_add(a, parallel_of(context));
  }
};

const CpuRegistration<LinearAdd, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
