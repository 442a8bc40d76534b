// Int4Linear for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in model.onnx.
#include "int4_linear/arguments.h"
#include "ort_cpu.h"

namespace reformer::ort {
namespace {

class Int4LinearNode : public Int4Linear {
 public:
  explicit Int4LinearNode(const Ort::ConstKernelInfo&) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Int4Linear>(context);
    Int4LinearArguments a = arguments(axes, raw_inputs<Int4Linear>(context).data());
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {axes["batch"], axes["length"], a.columns}).GetTensorMutableRawData();
    int4_linear(a, parallel_of(context));
  }
};

const CpuRegistration<Int4LinearNode, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
