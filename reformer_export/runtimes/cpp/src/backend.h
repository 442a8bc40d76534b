// The interface of a runtime. Each runtime has a file like onnxruntime_backend.cpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reformer/session.h"

namespace reformer {

// A model opened in one runtime.
class Backend {
 public:
  virtual ~Backend() = default;
  // The inputs must be those that Signature::check returned. Threads may call it at the same time.
  virtual NamedTensors run(const NamedTensors& inputs) const = 0;

  std::string description;
};

// A runtime, which may be missing from this build.
struct Runtime {
  const char* name;
  const char* format;  // the format that the artifact must hold
  const char* verb;    // the command that creates the format
  const char* absent;  // the reason why this build lacks it; null if it has it
  bool on_cuda;        // true if Options::device may be a GPU
  // Throws Error. Adds notes for the user to `notes`.
  std::unique_ptr<Backend> (*open)(const Artifact& artifact, const Options& options,
                                   std::vector<std::string>& notes);
};

// The number of the GPU in `device`; no value for the CPU. Throws Error (usage) for an unknown
// device.
std::optional<int> gpu_number(const std::string& device);

// Throws Error (usage) for a negative number.
void check_threads(int threads);

// All runtimes, fastest first.
const std::vector<Runtime>& all_runtimes();

Runtime tensorrt_runtime();
Runtime onnxruntime_runtime();
#ifdef REFORMER_LIBTORCH
Runtime torchscript_runtime();
#endif

}  // namespace reformer
