// Opens ONNX files of an artifact in ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <optional>
#include <string>
#include <vector>

#include "onnxruntime_library.h"
#include "reformer/artifact.h"

namespace reformer {

ONNXTensorElementDataType element_type(DType dtype);

// An output as a Tensor that uses the runtime's memory. Throws Error (inference) if its type is not
// that of `spec`.
Tensor tensor_from(Ort::Value value, const TensorSpec& spec);

// ONNX Runtime with the settings, the device and the operators for one format of an artifact.
class OnnxRuntimeOpener {
 public:
  // Loads ONNX Runtime, and our kernels if they are chosen. Adds notes for the user to `notes`.
  // Throws Error (usage, unavailable, native, environment).
  OnnxRuntimeOpener(const Artifact& artifact, const std::string& format, const Options& options,
                    std::vector<std::string>& notes);

  // Opens a file of the artifact. Throws Error (unavailable).
  Ort::Session open(const std::string& file) const;
  // A value that uses the memory of `tensor`, which must live longer than the value.
  Ort::Value value_of(const Tensor& tensor) const;

  // True if our kernels run the operators.
  bool native() const noexcept { return native_; }
  // The version of ONNX Runtime, the device and the implementation of the operators.
  const std::string& description() const noexcept { return description_; }

 private:
  void append_cuda(int gpu);
  void register_ops(const Artifact& artifact, const std::string& format, const Options& options,
                    bool on_gpu, std::vector<std::string>& notes);

  const OnnxRuntimeLibrary& library_;
  const Artifact artifact_;
  const Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::SessionOptions settings_;
  bool native_ = false;
  std::string description_;
};

}  // namespace reformer
