// Runs engines. This is built only if the headers of TensorRT were found (REFORMER_TENSORRT).
#pragma once

#include <memory>

#include "backend.h"
#include "tensorrt_library.h"

namespace reformer {

// Opens an engine. Throws Error (unavailable) if the library is of another release than the
// headers, if there is no GPU, or if the library refuses the engine.
std::unique_ptr<Backend> open_tensorrt(const Artifact& engine, const TensorRTLibrary& library);

}  // namespace reformer
