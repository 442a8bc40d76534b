// What every runtime looks like from inside: a file like onnxruntime_backend.cpp for each.
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
  // Inputs as Signature::check returns them. Threads may call it at the same time.
  virtual NamedTensors run(const NamedTensors& inputs) const = 0;

  std::string description;
};

// A runtime that this library knows.
struct Runtime {
  const char* name;
  const char* format;  // what the artifact must hold
  const char* verb;    // what makes that
  const char* absent;  // why it was not built in; null where it was
  bool on_cuda;        // whether Options::device may be a GPU
  // Throws Error. Adds to `notes` what the user should know.
  std::unique_ptr<Backend> (*open)(const Artifact& artifact, const Options& options,
                                   std::vector<std::string>& notes);
};

// The GPU that a device names, or none for the CPU. Throws Error (usage) for an unknown device.
std::optional<int> gpu_number(const std::string& device);

// Fastest first.
const std::vector<Runtime>& all_runtimes();

Runtime tensorrt_runtime();
Runtime onnxruntime_runtime();
#ifdef REFORMER_LIBTORCH
Runtime torchscript_runtime();
#endif

}  // namespace reformer
