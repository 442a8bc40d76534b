// The files that model.onnx points at, checked before anything reads or allocates by them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace reformer {

// Checks every external tensor of a model, wherever it hides: initializers, sparse ones,
// attributes, subgraphs, function bodies, training graphs. A location must be the plain name of a
// file that `listed` knows, a regular one of the model's folder, reached without leaving it through
// a link; the tensor's bytes must lie inside. Throws Error (artifact) naming the tensor.
void check_external_data(const std::filesystem::path& folder, const std::string& model,
                         const std::function<bool(const std::string&)>& listed);

}  // namespace reformer
