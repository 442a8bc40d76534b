// Which implementation of our operators runs: the rules are those of reformer_ops/core/native.py.
#pragma once

#include <filesystem>
#include <string>

#include "reformer/session.h"

namespace reformer {

// "native", "portable" or "auto": what the options ask for, else REFORMER_OPS. Throws Error (usage,
// environment) for another word.
std::string requested_ops(const Options& options);

// Operators of an artifact whose numbers our kernels do not give, in words; empty when there are
// none.
std::string strange_ops(const Manifest& manifest);

// What was requested, for model.onnx. Throws Error (usage) where native operators are asked for and
// are not those of the artifact.
std::string chosen_ops(const Artifact& artifact, const Options& options);

// The file `name` in the folder that the options or REFORMER_OPS_LIBRARY_DIR name, or in our own.
// Throws Error (native) that says where it was looked for.
std::filesystem::path ops_library(const std::string& name, const Options& options);

}  // namespace reformer
