// Runs an engine with the loaded TensorRT. Its interface consists of C++ classes, so the library
// must be of the same release as the headers.
#include "tensorrt_backend.h"

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <mutex>
#include <variant>

#include "engine.h"
#include "files.h"
#include "gpu.h"
#include "messages.h"

namespace reformer {
namespace {

#ifdef TRT_MAJOR_RTX
constexpr const char* kFlavor = "rtx";
#else
constexpr const char* kFlavor = "standard";
#endif

// Keeps the error messages of the library.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      last_ = message;
    } catch (const std::exception&) {  // no memory for the message
    }
  }

  std::string reason() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_.empty() ? "it gives no reason" : tidy_message(last_);
  }

 private:
  std::mutex mutex_;
  std::string last_;
};

void check_headers(const Artifact& engine, const TensorRTLibrary& library) {
  const std::string release = std::to_string(NV_TENSORRT_MAJOR) + "." +
                              std::to_string(NV_TENSORRT_MINOR) + "." +
                              std::to_string(NV_TENSORRT_PATCH);
  const bool same =
      engine.manifest().engine->flavor == kFlavor && library.version.rfind(release + ".", 0) == 0;
  if (!same)
    fail(ErrorKind::unavailable, engine.path().string(), " needs ", library.title, " ",
         library.version, ", and this program was built with the headers of ",
         tensorrt_title(kFlavor), " ", release,
         ": build it with -DTENSORRT_INCLUDE_DIR=the include folder of the release it needs");
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size() && i < nvinfer1::Dims::MAX_DIMS; ++i)
    dims.d[i] = shape[i];
  return dims;
}

Shape shape_of(const TensorSpec& spec, std::int64_t batch, std::int64_t length) {
  Shape shape;
  for (const auto& axis : spec.axes) {
    const auto* name = std::get_if<std::string>(&axis);
    if (name == nullptr)
      shape.push_back(std::get<std::int64_t>(axis));
    else if (*name == "batch" || *name == "sequence")
      shape.push_back(*name == "batch" ? batch : length);
    else
      fail(ErrorKind::artifact, "the output ", spec.name, " has the axis ", in_quotes(*name),
           ", whose size is unknown: ", kEngineRemedy);
  }
  return shape;
}

// Makes the same calls in the same order as reformer_export/runtimes/tensorrt.py.
class TensorRTBackend : public Backend {
 public:
  TensorRTBackend(const Artifact& engine, const TensorRTLibrary& library, const std::string& title)
      : signature_(engine.signature()),
        profiles_(engine.manifest().engine->profiles),
        gpu_("running " + engine.path().string() + ", a " + library.title + " engine,") {
    // TensorRT-RTX does not load engines on other GPU generations than these.
    const int generation = gpu_.capability() / 10;
    if (library.title == tensorrt_title("rtx") && generation != 7 && generation != 8 &&
        generation != 12)
      fail(ErrorKind::unavailable, title, " knows sm75, sm80, sm86, sm89, sm120 and sm121, and ",
           "this GPU is the ", gpu_.name(), ": run the artifact in ONNX Runtime with ",
           "--device cuda, or use the standard TensorRT");
    const GpuTurn turn(gpu_);
    using Create = void* (*)(void*, std::int32_t);
    const auto create =
        reinterpret_cast<Create>(::dlsym(library.handle, "createInferRuntime_INTERNAL"));
    if (create != nullptr)
      runtime_.reset(static_cast<nvinfer1::IRuntime*>(create(&logger_, NV_TENSORRT_VERSION)));
    if (runtime_ == nullptr)
      fail(ErrorKind::unavailable, title, " does not start: ", logger_.reason());
    {
      const MappedFile file(engine.file(kEngineFile));
      engine_.reset(runtime_->deserializeCudaEngine(file.data(), file.size()));
    }
    if (engine_ == nullptr) {
      const std::string targets = joined(engine.manifest().engine->targets);
      fail(ErrorKind::unavailable, title, " refuses ", engine.path().string(), " on ", gpu_.name(),
           ": ", logger_.reason(), "; it was built for ",
           targets.empty() ? "the GPU of another machine" : targets);
    }
    context_.reset(engine_->createExecutionContext());
    if (context_ == nullptr)
      fail(ErrorKind::unavailable, title, " cannot run ", engine.path().string(), ": ",
           logger_.reason());
    description = title + " on " + gpu_.name() + ", " + engine.manifest().dtype;
  }

  ~TensorRTBackend() override {
    try {
      const GpuTurn turn(gpu_);
      context_.reset();
      engine_.reset();
      runtime_.reset();
    } catch (const Error&) {  // at the end of the process, the driver may already have shut down
    }
  }

  NamedTensors run(const NamedTensors& inputs) const override {
    const Shape& shape = inputs.front().second.shape();
    const std::int64_t batch = shape[0], length = shape[1];
    const std::size_t profile = choose_profile(profiles_, batch, length);
    const auto check = [&](bool done) {
      if (!done)
        fail(ErrorKind::inference, "the engine failed on ", std::to_string(batch), " x ",
             std::to_string(length), " tokens: ", logger_.reason());
    };
    const std::lock_guard<std::mutex> lock(mutex_);  // only one thread at a time may use a context
    const GpuTurn turn(gpu_);
    GpuMemory memory(gpu_);
    NamedTensors outputs;
    std::vector<void*> places;
    for (const TensorSpec& spec : signature_.outputs)
      outputs.emplace_back(spec.name, Tensor(spec.dtype, shape_of(spec, batch, length)));
    try {
      if (profile != profile_) {
        check(context_->setOptimizationProfileAsync(static_cast<std::int32_t>(profile),
                                                    gpu_.stream()));
        profile_ = profile;
      }
      for (const auto& [name, tensor] : inputs) {
        check(context_->setInputShape(name.c_str(), dims_of(tensor.shape())));
        check(
            context_->setTensorAddress(name.c_str(), memory.upload(tensor.raw(), tensor.bytes())));
      }
      for (const auto& [name, tensor] : outputs) {
        places.push_back(memory.allocate(tensor.bytes()));
        check(context_->setTensorAddress(name.c_str(), places.back()));
      }
      check(context_->enqueueV3(gpu_.stream()));
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        Tensor& output = outputs[i].second;
        memory.download(output.raw(), places[i], output.bytes());
      }
      gpu_.synchronize();
    } catch (const Error&) {
      try {
        gpu_.synchronize();  // so that the GPU does not use the buffers, which are freed next
      } catch (const Error&) {
      }
      throw;
    }
    return outputs;
  }

 private:
  const Signature signature_;
  const std::vector<Profile> profiles_;
  const Gpu gpu_;
  mutable Logger logger_;
  mutable std::mutex mutex_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  mutable std::size_t profile_ = 0;
};

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const Artifact& engine, const TensorRTLibrary& library) {
  check_headers(engine, library);
  return std::make_unique<TensorRTBackend>(engine, library, library.title + " " + library.version);
}

}  // namespace reformer
