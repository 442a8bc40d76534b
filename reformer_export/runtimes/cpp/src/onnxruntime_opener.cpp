#include "onnxruntime_opener.h"

#include <array>
#include <memory>

#include "backend.h"
#include "messages.h"
#include "ops_library.h"

namespace reformer {
namespace {

constexpr const char* kOpsLibrary = "libreformer_ops_ort.so";

// The path of model.cuda. Throws Error (usage) if the artifact has none.
std::string kernels_of(const Artifact& artifact) {
  const auto& formats = artifact.manifest().formats;
  const auto found = formats.find("cuda");
  if (found == formats.end())
    fail(ErrorKind::usage, artifact.path().string(),
         " has no kernels for GPUs: add them with reformer-export add-kernels ",
         artifact.path().string(), ", or give --ops portable, which takes many times as long");
  return artifact.file(found->second.file()).string();
}

}  // namespace

ONNXTensorElementDataType element_type(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    case DType::int8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case DType::int16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16;
    case DType::int32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::int64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::uint8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case DType::uint16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16;
    case DType::uint32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32;
    case DType::uint64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64;
    case DType::float16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case DType::bfloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case DType::float32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::float64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

Tensor tensor_from(Ort::Value value, const TensorSpec& spec) {
  const auto info = value.GetTensorTypeAndShapeInfo();
  if (info.GetElementType() != element_type(spec.dtype))
    fail(ErrorKind::inference, "onnxruntime did not return ", spec.name, " as ",
         dtype_name(spec.dtype), ", the type in the manifest");
  auto kept = std::make_shared<Ort::Value>(std::move(value));
  void* memory = kept->GetTensorMutableRawData();
  return {spec.dtype, info.GetShape(), std::shared_ptr<void>(std::move(kept), memory)};
}

OnnxRuntimeOpener::OnnxRuntimeOpener(const Artifact& artifact, const std::string& format,
                                     const Options& options, std::vector<std::string>& notes)
    : library_(load_onnxruntime(options)), artifact_(artifact) {
  settings_.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
  // The memory pattern of a first run reserves memory for all tensors at once, also for tensors
  // that are no longer needed. At 65,536 tokens this doubles the peak memory and is not faster.
  settings_.DisableMemPattern();
  if (options.threads > 0) settings_.SetIntraOpNumThreads(options.threads);
  settings_.AddConfigEntry("session.model_external_initializers_file_folder_path",
                           artifact.path().c_str());
  const std::optional<int> gpu = gpu_number(options.device);
  const std::string threads = options.threads > 0 ? std::to_string(options.threads) : "all";
  description_ = "onnxruntime " + library_.version + ", " +
                 (gpu ? "cuda:" + std::to_string(*gpu) : "CPU, " + threads + " threads") + ", ";
  if (gpu) append_cuda(*gpu);
  register_ops(artifact, format, options, gpu.has_value(), notes);
}

Ort::Session OnnxRuntimeOpener::open(const std::string& file) const {
  try {
    return {*library_.env, artifact_.file(file).c_str(), settings_};
  } catch (const Ort::Exception& error) {
    fail(ErrorKind::unavailable, "onnxruntime ", library_.version, " cannot load ", file, ": ",
         one_line(error.what()));
  }
}

Ort::Value OnnxRuntimeOpener::value_of(const Tensor& tensor) const {
  // The API takes a non-const pointer, although the runtime only reads inputs.
  return Ort::Value::CreateTensor(memory_, const_cast<void*>(tensor.raw()), tensor.bytes(),
                                  tensor.shape().data(), tensor.shape().size(),
                                  element_type(tensor.dtype()));
}

// Adds the CUDA provider with the options of the verification: no TF32, and fp16 norms with sums in
// fp32.
void OnnxRuntimeOpener::append_cuda(int gpu) {
  const std::string number = std::to_string(gpu);
  const std::array<const char*, 3> keys{"device_id", "use_tf32",
                                        "enable_skip_layer_norm_strict_mode"};
  const std::array<const char*, 3> values{number.c_str(), "0", "1"};
  const OrtApi& api = Ort::GetApi();
  OrtCUDAProviderOptionsV2* options = nullptr;
  try {
    Ort::ThrowOnError(api.CreateCUDAProviderOptions(&options));
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(api.ReleaseCUDAProviderOptions)> kept(
        options, api.ReleaseCUDAProviderOptions);
    Ort::ThrowOnError(
        api.UpdateCUDAProviderOptions(options, keys.data(), values.data(), keys.size()));
    settings_.AppendExecutionProvider_CUDA_V2(*options);
  } catch (const Ort::Exception& error) {
    fail(ErrorKind::unavailable, "onnxruntime ", library_.version, " cannot use cuda:", number,
         ": ", one_line(error.what()));
  }
}

// Registers our kernels if they are chosen, and completes the description.
void OnnxRuntimeOpener::register_ops(const Artifact& artifact, const std::string& format,
                                     const Options& options, bool on_gpu,
                                     std::vector<std::string>& notes) {
  Options asked = options;
  // On a GPU, standard operators take many times as long, so they run only on request.
  if (on_gpu && requested_ops(options) == "auto") asked.ops = "native";
  const std::string choice = chosen_ops(artifact, format, asked);
  if (choice != "portable") {
    if (on_gpu) settings_.AddConfigEntry("reformer.kernels", kernels_of(artifact).c_str());
    try {
      const auto library = ops_library(kOpsLibrary, options);
      try {
        settings_.RegisterCustomOpsLibrary(library.c_str());
        native_ = true;
      } catch (const Ort::Exception& error) {
        const std::string reason = one_line(error.what());
        // An invalid REFORMER_FORCE_ISA is always an error, whichever operators were chosen.
        if (const auto place = reason.find("REFORMER_FORCE_ISA"); place != std::string::npos)
          fail(ErrorKind::environment, reason.substr(place));
        fail(ErrorKind::native, library.string(), " does not load (", reason,
             "): install again, or set REFORMER_OPS=portable");
      }
    } catch (const Error& error) {
      if (choice == "native" || error.kind() != ErrorKind::native) throw;
      notes.push_back(std::string("portable operators run: ") + error.what());
    }
  }
  description_ += !native_ ? "portable operators"
                  : on_gpu ? "kernels of model.cuda"
                           : "native operators (" + settings_.GetConfigEntry("reformer.isa") + ")";
}

}  // namespace reformer
