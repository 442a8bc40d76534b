// LinearAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in model.onnx.
#include "linear_add/arguments.h"
#include "ort_cpu.h"

namespace reformer::ort {
namespace {

class LinearAddNode : public LinearAdd {
 public:
  // The output may be in the memory of the residual.
  static constexpr int kInPlace = 0;

  explicit LinearAddNode(const Ort::ConstKernelInfo&) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<LinearAdd>(context);
    LinearAddArguments a = arguments(axes, raw_inputs<LinearAdd>(context).data());
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {axes["batch"], axes["length"], a.hidden}).GetTensorMutableRawData();
    linear_add(a, parallel_of(context));
  }
};

const CpuRegistration<LinearAddNode, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
