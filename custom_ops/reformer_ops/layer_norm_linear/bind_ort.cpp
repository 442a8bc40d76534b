// LayerNormLinear for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include "layer_norm_linear/arguments.h"
#include "ort_cpu.h"

namespace reformer::ort {
namespace {

class LayerNormLinearNode : public LayerNormLinear {
 public:
  explicit LayerNormLinearNode(const Ort::ConstKernelInfo& node)
      : epsilon_(attribute<float>(node, "epsilon")) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<LayerNormLinear>(context);
    LayerNormLinearArguments a =
        arguments(axes, raw_inputs<LayerNormLinear>(context).data(), epsilon_);
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {axes["batch"], axes["length"], a.columns}).GetTensorMutableRawData();
    layer_norm_linear(a, parallel_of(context));
  }

 private:
  float epsilon_;
};

const CpuRegistration<LayerNormLinearNode, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
