// Loads TensorRT or TensorRT-RTX at run time.
#pragma once

#include <string>

#include "reformer/session.h"

namespace reformer {

struct TensorRTLibrary {
  void* handle;
  std::string title;    // "TensorRT-RTX"
  std::string version;  // "1.7.1.116"
};

// "TensorRT-RTX" for "rtx", "TensorRT" for "standard".
const char* tensorrt_title(const std::string& flavor) noexcept;

// Loads the release that built the engine; other releases cannot read the engine. Throws Error
// (unavailable) if the library is missing, does not load, or is of another release.
TensorRTLibrary load_tensorrt(const Artifact& engine, const Options& options);

// A message of the library without error codes and source file names.
std::string tidy_message(const std::string& message);

}  // namespace reformer
