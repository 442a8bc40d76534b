// The common part of all ONNX Runtime bindings, on every device.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "common.h"
#include "cuda/kernel_file.h"
#include "operands.h"

namespace reformer::ort {

// The API version that we request. We call nothing newer, so a library that was compiled with the
// headers of a later release still loads into this one.
constexpr std::uint32_t kApiVersion = 21;
static_assert(ORT_API_VERSION >= kApiVersion,
              "the headers of ONNX Runtime 1.21 or later are needed");

// Runs the function and converts an exception to a status: no exception may reach the runtime.
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

inline Shape shape_of(const Ort::ConstValue& value) {
  return value.GetTensorTypeAndShapeInfo().GetShape();
}

// An attribute of the node. Throws Error if it is missing: there are no defaults.
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

// An operator of the runtime, for one type of models. Declaration has kName, kInputs, kOutputs and
// kAttributes. Derived has CreateKernelV2, which creates a Node, and GetExecutionProviderType. Node
// has ComputeV2.
template <typename Declaration, typename Derived, typename Node>
struct Operator : Ort::CustomOpBase<Derived, Node, true> {
  explicit Operator(ONNXTensorElementDataType model) : model_(model) {
    this->version = kApiVersion;
    this->InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return as_status([&] { infer_output_shape(context); });
    };
  }

  const char* GetName() const { return Declaration::kName; }
  std::size_t GetInputTypeCount() const { return std::size(Declaration::kInputs); }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    return element_type(Declaration::kInputs[index].type, model_);
  }
  std::size_t GetOutputTypeCount() const { return std::size(Declaration::kOutputs); }
  ONNXTensorElementDataType GetOutputType(std::size_t index) const {
    return element_type(Declaration::kOutputs[index].type, model_);
  }

 private:
  // The base class's InferOutputShape is not used: up to 1.21 it marks a symbolic axis in a way
  // that later releases refuse.
  static void infer_output_shape(OrtShapeInferContext* given) {
    for (std::size_t i = 0; i < std::size(Declaration::kOutputs); ++i)
      infer_output_shape(given, Declaration::kOutputs[i], i);
  }

  static void infer_output_shape(OrtShapeInferContext* given, const Operand& output,
                                 std::size_t index) {
    const OrtApi& api = Ort::GetApi();
    const Ort::ShapeInferContext context(&api, given);
    std::vector<std::int64_t> sizes;
    std::vector<const char*> names;
    for (const char* name : output.axes()) {
      const auto [input, place] = find_axis(name);
      const auto& shape = context.GetInputShape(input);
      if (shape.size() <= place) return;  // of unknown rank
      sizes.push_back(shape[place].IsInt() ? shape[place].AsInt() : -1);
      names.push_back(shape[place].IsInt() ? "" : shape[place].AsSym());
    }
    // The runtime asks only one instance of the operator, for nodes of every type.
    ONNXTensorElementDataType type = element_type(output.type, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    if (output.type == Type::model) {
      OrtTensorTypeAndShapeInfo* first = nullptr;  // owned by the context
      Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(given, 0, &first));
      Ort::ThrowOnError(api.GetTensorElementType(first, &type));
    }
    OrtTensorTypeAndShapeInfo* created = nullptr;
    Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&created));
    const Ort::TensorTypeAndShapeInfo shape(created);
    Ort::ThrowOnError(api.SetTensorElementType(created, type));
    Ort::ThrowOnError(api.SetDimensions(created, sizes.data(), sizes.size()));
    Ort::ThrowOnError(api.SetSymbolicDimensions(created, names.data(), names.size()));
    Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(given, index, created));
  }

  // The first input that has an axis of this name, and the index of the axis.
  static std::pair<std::size_t, std::size_t> find_axis(const char* name) {
    for (std::size_t input = 0; input < std::size(Declaration::kInputs); ++input) {
      const auto axes = Declaration::kInputs[input].axes();
      for (std::size_t place = 0; place < axes.size(); ++place)
        if (std::strcmp(axes[place], name) == 0) return {input, place};
    }
    throw Error(std::string("no input has the axis ") + name);
  }

  static ONNXTensorElementDataType element_type(Type type, ONNXTensorElementDataType model) {
    switch (type) {
      case Type::f32:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
      case Type::i32:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
      case Type::i8:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
      case Type::u8:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
      case Type::boolean:
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
      case Type::model:
        break;
    }
    return model;
  }

  ONNXTensorElementDataType model_;
};

// Creates the operators of one session, with its GPU kernels; null if the session has none.
using Kernels = std::shared_ptr<const cuda::KernelFile>;
using MakeOperator = std::function<std::shared_ptr<const OrtCustomOp>(const Kernels&)>;

// All operators of the library.
inline std::vector<MakeOperator>& operators() {
  static std::vector<MakeOperator> all;
  return all;
}

}  // namespace reformer::ort
