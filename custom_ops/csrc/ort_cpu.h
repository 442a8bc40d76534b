// The operators for ONNX Runtime's CPU provider.
#pragma once

#include <array>
#include <cstddef>
#include <iterator>
#include <memory>
#include <type_traits>

#include "first_error.h"
#include "ort_binding.h"
#include "parallel.h"

namespace reformer::ort {

// Runs tasks on the threads of the session.
inline Parallel parallel_of(const Ort::KernelContext& context) {
  const auto run = [](void* given, std::size_t count, Parallel::Task task, void* argument) {
    struct Work {
      Parallel::Task task;
      void* argument;
      FirstError error;
    } work{task, argument, {}};
    // One batch for each task, so that a thread takes the next task when it has finished one.
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

// The axes of a node's inputs. Throws Error if a shape is not as declared.
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

// Kernel has the declaration of an operator, a constructor that reads a node's attributes, and
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

// The input whose memory the output may have; -1 if the declaration has no kInPlace.
template <typename Declaration, typename = void>
constexpr int kInPlace = -1;
template <typename Declaration>
constexpr int kInPlace<Declaration, std::void_t<decltype(Declaration::kInPlace)>> =
    Declaration::kInPlace;

template <typename Kernel, DType dtype>
struct CpuOperator : Operator<Kernel, CpuOperator<Kernel, dtype>, CpuNode<Kernel, dtype>> {
  CpuOperator()
      : Operator<Kernel, CpuOperator, CpuNode<Kernel, dtype>>(
            dtype == DType::f16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    if constexpr (kInPlace<Kernel> >= 0) {
      this->GetMayInplace = [](int** input, int** output) -> std::size_t {
        *input = new int(kInPlace<Kernel>);
        *output = new int(0);
        return 1;
      };
      this->ReleaseMayInplace = [](int* input, int* output) {
        delete input;
        delete output;
      };
    }
  }

  OrtStatus* CreateKernelV2(const OrtApi&, const OrtKernelInfo* node, void** kernel) const {
    return as_status([&] { *kernel = new CpuNode<Kernel, dtype>(node); });
  }

  const char* GetExecutionProviderType() const { return "CPUExecutionProvider"; }
};

// False in the library of the tests, where the GPU operators are registered for the CPU provider.
#ifdef REFORMER_CUDA_PROVIDER
constexpr bool kOnCpu = false;
#else
constexpr bool kOnCpu = true;
#endif

// The sessions that have an operator's CPU kernel. In a session with a GPU, such a kernel would
// move its part of the work from the GPU to the CPU.
enum class Sessions { all, without_gpu };

// A static object of this type registers an operator in the library.
template <typename Kernel, Sessions sessions = Sessions::all>
struct CpuRegistration {
  CpuRegistration() {
    // constexpr, so that this library does not need the CPU kernels to link.
    if constexpr (kOnCpu) {
      operators().push_back(&make<DType::f32>);
      operators().push_back(&make<DType::f16>);
    }
  }

 private:
  template <DType dtype>
  static std::shared_ptr<const OrtCustomOp> make(const Kernels& of_gpu) {
    if (sessions == Sessions::without_gpu && of_gpu != nullptr) return nullptr;
    return std::make_shared<const CpuOperator<Kernel, dtype>>();
  }
};

}  // namespace reformer::ort
