// Loads libonnxruntime at run time, so that one binary works with release 1.21 and all later ones.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <filesystem>
#include <string>

#include "reformer/session.h"

namespace reformer {

struct OnnxRuntimeLibrary {
  std::string version;
  std::filesystem::path path;  // a name without a folder if the system found the library
  Ort::Env* env;
};

// Loads the library once; a process cannot have two. Throws Error (unavailable) if there is none,
// if it does not load or is too old, or if another one was loaded before.
const OnnxRuntimeLibrary& load_onnxruntime(const Options& options);

}  // namespace reformer
