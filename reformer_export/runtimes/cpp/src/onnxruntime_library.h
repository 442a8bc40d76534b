// Loads libonnxruntime at run time, so that one binary works with every release from 1.21 on.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <string>

#include "reformer/session.h"

namespace reformer {

struct OnnxRuntimeLibrary {
  std::string version;
  std::filesystem::path path;  // a name without folder if the system found it
  Ort::Env* env;
};

// Loads it once in a process: a process cannot have two. Throws Error (unavailable) if there is
// none, if it does not load or is too old, or if another one was loaded before.
const OnnxRuntimeLibrary& load_onnxruntime(const Options& options);

}  // namespace reformer
