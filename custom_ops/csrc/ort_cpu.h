// The operators for ONNX Runtime's CPU provider.
#pragma once

#include <array>
#include <cstddef>
#include <iterator>
#include <memory>

#include "first_error.h"
#include "ort_binding.h"
#include "parallel.h"

namespace reformer::ort {

// The threads of the session a kernel runs in.
inline Parallel parallel_of(const Ort::KernelContext& context) {
  const auto run = [](void* given, std::size_t count, Parallel::Task task, void* argument) {
    struct Work {
      Parallel::Task task;
      void* argument;
      FirstError error;
    } work{task, argument, {}};
    // A batch for each task: threads take the next one when they are done with theirs.
    static_cast<const Ort::KernelContext*>(given)->ParallelFor(
        [](void* opaque, std::size_t index) {
          Work& work = *static_cast<Work*>(opaque);
          work.error.run([&] { work.task(work.argument, index); });
        },
        count, count, &work);
    work.error.rethrow();
  };
  return {const_cast<Ort::KernelContext*>(&context), run};
}

// The axes of a node's inputs. Throws Error where they are not as declared.
template <typename Declaration>
Axes check_inputs(const Ort::KernelContext& context) {
  Axes axes(Declaration::kTorchName);
  std::size_t index = 0;
  for (const Operand& declared : Declaration::kInputs)
    axes.check(declared.name, declared.axes(), shape_of(context.GetInput(index++)));
  return axes;
}

// Pointers to a node's inputs.
template <typename Declaration>
auto raw_inputs(const Ort::KernelContext& context) {
  std::array<const void*, std::size(Declaration::kInputs)> inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    inputs[i] = context.GetInput(i).GetTensorRawData();
  return inputs;
}

// Kernel is the operator of one node: its declaration, a constructor that reads the attributes, and
// compute(context, dtype).
template <typename Kernel, DType dtype>
class CpuNode {
 public:
  explicit CpuNode(const OrtKernelInfo* node) : kernel_(Ort::ConstKernelInfo(node)) {}

  OrtStatus* ComputeV2(OrtKernelContext* given) {
    return as_status([&] { kernel_.compute(Ort::KernelContext(given), dtype); });
  }

 private:
  Kernel kernel_;
};

template <typename Kernel, DType dtype>
struct CpuOperator : Operator<Kernel, CpuOperator<Kernel, dtype>, CpuNode<Kernel, dtype>> {
  CpuOperator()
      : Operator<Kernel, CpuOperator, CpuNode<Kernel, dtype>>(
            dtype == DType::f16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {}

  OrtStatus* CreateKernelV2(const OrtApi&, const OrtKernelInfo* node, void** kernel) const {
    return as_status([&] { *kernel = new CpuNode<Kernel, dtype>(node); });
  }

  const char* GetExecutionProviderType() const { return "CPUExecutionProvider"; }
};

// Not in the library that tests make, where the operators for GPUs have the provider to themselves.
#ifdef REFORMER_CUDA_PROVIDER
constexpr bool kOnCpu = false;
#else
constexpr bool kOnCpu = true;
#endif

// A static object of this type puts an operator into the library.
template <typename Kernel>
struct CpuRegistration {
  CpuRegistration() {
    // constexpr: where they are not wanted, no code of theirs asks for the kernels.
    if constexpr (kOnCpu) {
      operators().push_back(
          [](const Kernels&) { return std::make_shared<const CpuOperator<Kernel, DType::f32>>(); });
      operators().push_back(
          [](const Kernels&) { return std::make_shared<const CpuOperator<Kernel, DType::f16>>(); });
    }
  }
};

}  // namespace reformer::ort
