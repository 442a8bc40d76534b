// The operators for ONNX Runtime's CUDA provider. The code is the same for all operators;
// model.cuda says what an operator launches.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/loaded_program.h"
#include "op_versions.h"
#include "ort_binding.h"

namespace reformer::ort {

// The name of the provider. Tests build with the CPU provider, and a driver that runs kernels on
// the CPU.
#ifdef REFORMER_CUDA_PROVIDER
constexpr const char* kCudaProvider = REFORMER_CUDA_PROVIDER;
#else
constexpr const char* kCudaProvider = "CUDAExecutionProvider";
#endif

// The config entry of a session's options that names model.cuda.
constexpr const char* kKernelsEntry = "reformer.kernels";

// GPU memory for one call of a node. The launched kernels may still use it after it is freed: it
// returns to the session's arena, which reuses it in the order of the stream.
class Scratch {
 public:
  Scratch(const Ort::KernelContext& context, OrtAllocator* allocator, std::size_t bytes,
          cuda::Stream stream);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* get() const { return memory_; }

 private:
  OrtAllocator* allocator_;
  void* memory_ = nullptr;
};

// The declaration of a node's operator.
struct CudaDeclaration {
  const char* name;
  std::int64_t version;
  std::vector<Operand> inputs, outputs;
  std::vector<Attribute> attributes;
  // Further checks of the operands. Throws Error.
  std::function<void(Axes&)> check;
};

// One node of a model.
class CudaNode {
 public:
  // Loads the kernels. Throws Error.
  CudaNode(const OrtKernelInfo* node, CudaDeclaration declaration, const char* dtype,
           const Kernels& kernels);

  OrtStatus* ComputeV2(OrtKernelContext* given) {
    return as_status([&] { compute(Ort::KernelContext(given)); });
  }

 private:
  void compute(const Ort::KernelContext& context) const;
  const cuda::LoadedProgram& program_for(Axes& axes) const;

  CudaDeclaration declaration_;
  struct Release {
    void operator()(OrtAllocator* allocator) const { Ort::GetApi().ReleaseAllocator(allocator); }
  };

  std::unique_ptr<OrtAllocator, Release> allocator_;
  std::vector<cuda::LoadedProgram> programs_;
};

template <typename Declaration>
struct CudaOperator : Operator<Declaration, CudaOperator<Declaration>, CudaNode> {
  static_assert(op_version(Declaration::kName) > 0, "no spec.py declares an operator of this name");

  CudaOperator(ONNXTensorElementDataType model, const char* dtype, Kernels kernels)
      : Operator<Declaration, CudaOperator, CudaNode>(model),
        dtype_(dtype),
        kernels_(std::move(kernels)) {}

  OrtStatus* CreateKernelV2(const OrtApi&, const OrtKernelInfo* node, void** kernel) const {
    return as_status([&] {
      const Declaration op{Ort::ConstKernelInfo(node)};  // throws Error for invalid attributes
      CudaDeclaration declaration{
          Declaration::kName,
          op_version(Declaration::kName),
          {std::begin(Declaration::kInputs), std::end(Declaration::kInputs)},
          {std::begin(Declaration::kOutputs), std::end(Declaration::kOutputs)},
          {std::begin(Declaration::kAttributes), std::end(Declaration::kAttributes)},
          [op](Axes& axes) { op.check(axes); }};
      *kernel = new CudaNode(node, std::move(declaration), dtype_, kernels_);
    });
  }

  const char* GetExecutionProviderType() const { return kCudaProvider; }

 private:
  const char* dtype_;
  Kernels kernels_;
};

// What happens to an operator in a session that has no kernels for it. `error`: its nodes are an
// error, because ONNX Runtime would run them on the CPU. `function`: the library leaves the
// operator out, and ONNX Runtime runs the function in model.onnx.
enum class Without { error, function };

// A static object of this type registers an operator in the library.
template <typename Declaration>
struct CudaRegistration {
  explicit CudaRegistration(Without kernels = Without::error) : without_(kernels) {
    add(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "float32");
    add(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, "float16");
    add(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, "bfloat16");
  }

 private:
  void add(ONNXTensorElementDataType model, const char* dtype) {
    const auto make = [model, dtype, without = without_](
                          const Kernels& kernels) -> std::shared_ptr<const OrtCustomOp> {
      if (without == Without::function &&
          (kernels == nullptr ||
           !kernels->has(Declaration::kName, op_version(Declaration::kName), dtype)))
        return nullptr;
      return std::make_shared<const CudaOperator<Declaration>>(model, dtype, kernels);
    };
    operators().push_back(make);
  }

  Without without_;
};

}  // namespace reformer::ort
