// LayerNormLinear for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include "layer_norm_linear/kernel.h"
#include "ort_panels.h"

namespace reformer::ort {
namespace {

class LayerNormLinear {
 public:
  static constexpr const char* kName = "LayerNormLinear";
  static constexpr const char* kTorchName = "layer_norm_linear";
  static constexpr Operand kInputs[] = {
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"weight", Type::model, {"panels", "hidden", "panel"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "columns"}},
  };

  explicit LayerNormLinear(const Ort::ConstKernelInfo& node)
      : epsilon_(attribute<float>(node, "epsilon")) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<LayerNormLinear>(context);
    const auto inputs = raw_inputs<LayerNormLinear>(context);
    const std::int64_t batch = axes["batch"], length = axes["length"];
    LayerNormLinearArguments a{};
    a.input = inputs[0];
    a.norm_weight = inputs[1];
    a.norm_bias = inputs[2];
    a.weight = inputs[3];
    a.rows = batch * length;
    a.hidden = axes["hidden"];
    a.columns = columns_of(axes, kTorchName, "panels");
    a.epsilon = epsilon_;
    a.dtype = dtype;
    a.output = context.GetOutput(0, {batch, length, a.columns}).GetTensorMutableRawData();
    layer_norm_linear(a, parallel_of(context));
  }

 private:
  float epsilon_;
};

const CpuRegistration<LayerNormLinear, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
