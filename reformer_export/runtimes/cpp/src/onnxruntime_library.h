// libonnxruntime, loaded while the program runs: one binary works with any release from 1.21 on.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <string>

#include "reformer/session.h"

namespace reformer {

struct OnnxRuntimeLibrary {
  std::string version;
  std::filesystem::path path;  // a bare name where the system found it
  Ort::Env* env;
};

// Loads it once in a process, which cannot hold two. Throws Error (unavailable) when there is none,
// when it does not load or is too old, and when another was loaded before.
const OnnxRuntimeLibrary& load_onnxruntime(const Options& options);

}  // namespace reformer
