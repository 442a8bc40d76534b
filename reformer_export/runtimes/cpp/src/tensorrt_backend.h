// What runs an engine; built where there are headers of TensorRT (REFORMER_TENSORRT).
#pragma once

#include <memory>

#include "backend.h"
#include "tensorrt_library.h"

namespace reformer {

// Throws Error (unavailable): the library is not of the headers' release, there is no GPU, or the
// library refuses the engine.
std::unique_ptr<Backend> open_tensorrt(const Artifact& engine, const TensorRTLibrary& library);

}  // namespace reformer
