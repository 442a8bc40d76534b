// Chooses the implementation of our operators, with the rules of reformer_ops/core/native.py.
#pragma once

#include <filesystem>
#include <string>

#include "reformer/session.h"

namespace reformer {

// "native", "portable" or "auto": from the options, else from REFORMER_OPS. Throws Error (usage,
// environment) for any other value.
std::string requested_ops(const Options& options);

// The operators in a format whose version our kernels do not implement, as text; empty if there are
// none.
std::string strange_ops(const Manifest& manifest, const std::string& format);

// The choice for an ONNX format. Throws Error (usage) if native operators are requested and our
// kernels cannot run those of the format.
std::string chosen_ops(const Artifact& artifact, const std::string& format, const Options& options);

// The file `name` in the folder from the options, else from REFORMER_OPS_LIBRARY_DIR, else in
// own_folders(). Throws Error (native) that lists the searched folders.
std::filesystem::path ops_library(const std::string& name, const Options& options);

}  // namespace reformer
