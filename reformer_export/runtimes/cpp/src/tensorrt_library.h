// The two libraries called TensorRT, loaded when an engine is to be run.
#pragma once

#include <string>

#include "reformer/session.h"

namespace reformer {

struct TensorRTLibrary {
  void* handle;
  std::string title;    // "TensorRT-RTX", as its maker writes it
  std::string version;  // "1.7.1.116"
};

// "TensorRT-RTX" of "rtx", "TensorRT" of "standard".
const char* tensorrt_title(const std::string& flavor) noexcept;

// Loads the library that built an engine; another release does not read it. Throws Error
// (unavailable): it is not there, does not load, or is another release.
TensorRTLibrary load_tensorrt(const Artifact& engine, const Options& options);

// A message of the library without its error codes and places in its own sources.
std::string tidy_message(const std::string& message);

}  // namespace reformer
