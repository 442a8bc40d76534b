// What the ONNX Runtime bindings of all operators share.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include "common.h"
#include "first_error.h"
#include "operands.h"
#include "parallel.h"

namespace reformer::ort {

// The API we ask a runtime for. We call nothing newer, so that a library compiled with the headers
// of a later release still loads into this one.
constexpr std::uint32_t kApiVersion = 21;
static_assert(ORT_API_VERSION >= kApiVersion,
              "the headers of ONNX Runtime 1.21 or later are needed");

// Runs the function; what it throws becomes a status. No exception may pass into the runtime.
template <typename Function>
OrtStatus* as_status(Function&& function) noexcept {
  const OrtApi& api = Ort::GetApi();
  try {
    function();
    return nullptr;
  } catch (const Error& error) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(ORT_FAIL, "out of memory");
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, error.what());
  } catch (...) {
    return api.CreateStatus(ORT_FAIL, "unknown error");
  }
}

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

inline Shape shape_of(const Ort::ConstValue& value) {
  return value.GetTensorTypeAndShapeInfo().GetShape();
}

// Masks are read as bytes: a bool of ONNX is a byte of 0 or 1.
inline const std::uint8_t* mask_of(const Ort::ConstValue& value) {
  return static_cast<const std::uint8_t*>(value.GetTensorRawData());
}

// An attribute of the node; there are no defaults.
template <typename Value>
Value attribute(const Ort::ConstKernelInfo& node, const char* name) {
  try {
    return node.GetAttribute<Value>(name);
  } catch (const Ort::Exception&) {
    throw Error(std::string("the attribute ") + name + " is missing or has another type");
  }
}

template <typename Value>
std::vector<Value> attributes(const Ort::ConstKernelInfo& node, const char* name) {
  try {
    return node.GetAttributes<Value>(name);
  } catch (const Ort::Exception&) {
    throw Error(std::string("the attribute ") + name + " is missing or has another type");
  }
}

// The type of an operand. `model` is fp32 or fp16, whichever the operator is registered for.
enum class Type { model, f32, i32, boolean };

// Where the size of an output's axis comes from.
struct AxisOf {
  std::size_t input, axis;
};

// Kernel is the operator of one node: kName, kInputs, kOutput, kOutputAxes, a constructor that
// reads the attributes, and compute(context, dtype).
template <typename Kernel, DType dtype>
class Node {
 public:
  explicit Node(const OrtKernelInfo* node) : kernel_(Ort::ConstKernelInfo(node)) {}

  OrtStatus* ComputeV2(OrtKernelContext* given) {
    return as_status([&] { kernel_.compute(Ort::KernelContext(given), dtype); });
  }

 private:
  Kernel kernel_;
};

// The operator as the runtime knows it, for one storage type.
template <typename Kernel, DType dtype>
struct Operator : Ort::CustomOpBase<Operator<Kernel, dtype>, Node<Kernel, dtype>, true> {
  Operator() {
    this->version = kApiVersion;
    this->InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return as_status([&] { infer_output_shape(context); });
    };
  }

  OrtStatus* CreateKernelV2(const OrtApi&, const OrtKernelInfo* node, void** kernel) const {
    return as_status([&] { *kernel = new Node<Kernel, dtype>(node); });
  }

  const char* GetName() const { return Kernel::kName; }
  const char* GetExecutionProviderType() const { return "CPUExecutionProvider"; }
  std::size_t GetInputTypeCount() const { return std::size(Kernel::kInputs); }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    return element_type(Kernel::kInputs[index]);
  }
  std::size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(std::size_t) const {
    return element_type(Kernel::kOutput);
  }

 private:
  // Not the base class's InferOutputShape: its headers up to 1.21 mark an axis without a number in
  // a way that later releases refuse.
  static void infer_output_shape(OrtShapeInferContext* given) {
    const OrtApi& api = Ort::GetApi();
    const Ort::ShapeInferContext context(&api, given);
    std::vector<std::int64_t> sizes;
    std::vector<const char*> names;
    for (const AxisOf& from : Kernel::kOutputAxes) {
      const auto& input = context.GetInputShape(from.input);
      if (input.size() <= from.axis) return;  // of unknown rank
      const auto& axis = input[from.axis];
      sizes.push_back(axis.IsInt() ? axis.AsInt() : -1);
      names.push_back(axis.IsInt() ? "" : axis.AsSym());
    }
    // The runtime asks one instance of the operator on behalf of all, whatever the node's type.
    ONNXTensorElementDataType type = element_type(Kernel::kOutput);
    if (Kernel::kOutput == Type::model) {
      OrtTensorTypeAndShapeInfo* first = nullptr;  // the context's, not ours
      Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(given, 0, &first));
      Ort::ThrowOnError(api.GetTensorElementType(first, &type));
    }
    OrtTensorTypeAndShapeInfo* created = nullptr;
    Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&created));
    const Ort::TensorTypeAndShapeInfo shape(created);
    Ort::ThrowOnError(api.SetTensorElementType(created, type));
    Ort::ThrowOnError(api.SetDimensions(created, sizes.data(), sizes.size()));
    Ort::ThrowOnError(api.SetSymbolicDimensions(created, names.data(), names.size()));
    Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(given, 0, created));
  }

  static ONNXTensorElementDataType element_type(Type type) {
    switch (type) {
      case Type::f32:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
      case Type::i32:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
      case Type::boolean:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
      case Type::model:
        break;
    }
    return dtype == DType::f16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                               : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
};

// All operators of the library.
inline std::vector<const OrtCustomOp*>& operators() {
  static std::vector<const OrtCustomOp*> all;
  return all;
}

// A static object of this type puts an operator into the library.
template <typename Kernel>
struct Registration {
  Registration() {
    static const Operator<Kernel, DType::f32> f32;
    static const Operator<Kernel, DType::f16> f16;
    operators().insert(operators().end(), {&f32, &f16});
  }
};

}  // namespace reformer::ort
