// Int8Linear for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in model.onnx.
#include "int8_linear/arguments.h"
#include "ort_cpu.h"

namespace reformer::ort {
namespace {

class Int8LinearNode : public Int8Linear {
 public:
  explicit Int8LinearNode(const Ort::ConstKernelInfo&) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Int8Linear>(context);
    Int8LinearArguments a = arguments(axes, raw_inputs<Int8Linear>(context).data());
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {axes["batch"], axes["length"], a.columns}).GetTensorMutableRawData();
    int8_linear(a, parallel_of(context));
  }
};

const CpuRegistration<Int8LinearNode, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
