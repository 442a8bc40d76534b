#include "reformer/session.h"

#include <algorithm>
#include <charconv>

#include "backend.h"
#include "engine.h"
#include "messages.h"

namespace reformer {

const std::vector<Runtime>& all_runtimes() {
  static const std::vector<Runtime> all{
      tensorrt_runtime(),
      onnxruntime_runtime(),
#ifdef REFORMER_LIBTORCH
      torchscript_runtime(),
#endif
  };
  return all;
}

std::vector<std::string> runtimes() {
  std::vector<std::string> names;
  for (const Runtime& runtime : all_runtimes())
    if (runtime.absent == nullptr) names.emplace_back(runtime.name);
  return names;
}

std::optional<int> gpu_number(const std::string& device) {
  if (device == "cpu") return std::nullopt;
  const std::string prefix = "cuda";
  if (device == prefix) return 0;
  int number = 0;
  const char* const end = device.data() + device.size();
  const char* const digits = device.data() + prefix.size() + 1;
  if (device.compare(0, prefix.size() + 1, prefix + ":") == 0 && digits < end && *digits != '-') {
    const auto [stopped, error] = std::from_chars(digits, end, number);
    if (error == std::errc() && stopped == end) return number;
  }
  fail(ErrorKind::usage, "unknown device ", in_quotes(device),
       ": it is cpu, cuda, or cuda:N for the GPU number N");
}

void check_threads(int threads) {
  if (threads < 0)
    fail(ErrorKind::usage, "--threads ", std::to_string(threads),
         ": at least one thread is needed");
}

namespace {

const Runtime* runtime_named(const std::string& name) {
  for (const Runtime& runtime : all_runtimes())
    if (name == runtime.name) return &runtime;
  return nullptr;
}

std::unique_ptr<Backend> opened(const Runtime& runtime, const Artifact& artifact,
                                const Options& options, std::vector<std::string>& notes) {
  if (runtime.absent != nullptr) fail(ErrorKind::unavailable, runtime.absent);
  return runtime.open(artifact, options, notes);
}

// The folder that --engine names, if it holds an engine of that artifact.
Artifact engine_of(const Artifact& artifact, const std::filesystem::path& folder) {
  Artifact engine = Artifact::open(folder);
  if (!engine.manifest().engine)
    fail(ErrorKind::usage, "--engine ", folder.string(), " holds no TensorRT engine");
  const auto model = artifact.manifest().files.find("model.onnx");
  if (model == artifact.manifest().files.end() ||
      model->second.sha256 != engine.manifest().engine->model_sha256)
    fail(ErrorKind::usage, "--engine ", folder.string(), " was not built from ",
         artifact.path().string(), ": build one with reformer-export to-tensorrt");
  return engine;
}

}  // namespace

Session::Session(const Artifact& artifact, const Options& options)
    : signature_(artifact.signature()) {
  const bool any = options.runtime == "auto";
  if (!any && runtime_named(options.runtime) == nullptr)
    fail(ErrorKind::usage, "unknown runtime ", in_quotes(options.runtime),
         ": choose auto or one of ", joined(runtimes()));
  check_threads(options.threads);
  const bool engine = artifact.manifest().engine.has_value();
  const bool on_gpu = gpu_number(options.device).has_value() && !engine;
  if (engine && !any && options.runtime != kEngineFormat)
    fail(ErrorKind::usage, artifact.path().string(), " is a TensorRT engine: ", options.runtime,
         " runs artifacts only");

  std::vector<std::string> reasons;
  // If a runtime is unavailable, the next one is tried. Other errors would occur in every runtime.
  const auto tried = [&](const Runtime& runtime, const Artifact& held) {
    try {
      backend_ = opened(runtime, held, options, notes_);
      runtime_ = runtime.name;
      signature_ = held.signature();
    } catch (const Error& error) {
      if (!any || error.kind() != ErrorKind::unavailable) throw;
      reasons.emplace_back(error.what());
    }
    return backend_ != nullptr;
  };
  const std::vector<std::string> formats = artifact.formats();
  bool done = any && !options.engine.empty() &&
              tried(*runtime_named(kEngineFormat), engine_of(artifact, options.engine));
  for (const Runtime& runtime : all_runtimes()) {
    if (done) break;
    if (!any && options.runtime != runtime.name) continue;
    const bool held = std::find(formats.begin(), formats.end(), runtime.format) != formats.end();
    if (any && (!held || (on_gpu && !runtime.on_cuda))) continue;
    if (!held && runtime.name != std::string(kEngineFormat))
      fail(ErrorKind::usage, artifact.path().string(), " holds no ", runtime.format, ", but ",
           joined(formats, " and "), ": choose another runtime, or add it with reformer-export ",
           runtime.verb);
    if (on_gpu && !runtime.on_cuda)
      fail(ErrorKind::usage, runtime.name, " does not run on ", options.device,
           ": choose onnxruntime, or another device");
    done = tried(runtime, artifact);
  }
  if (!done && reasons.empty())
    fail(ErrorKind::usage, artifact.path().string(), " holds ", joined(formats, " and "),
         ", and this program runs ", joined(runtimes()),
         ": add a model with reformer-export to-onnx");
  if (!done) fail(ErrorKind::unavailable, joined(reasons, "; "));
  for (const std::string& reason : reasons) notes_.push_back(runtime_ + " runs, since " + reason);
}

NamedTensors Session::run(const NamedTensors& inputs) const {
  return backend_->run(signature_.check(inputs));
}

const std::string& Session::description() const noexcept { return backend_->description; }

}  // namespace reformer
