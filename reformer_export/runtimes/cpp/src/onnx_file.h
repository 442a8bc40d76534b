// Checks the data files that model.onnx names, before anything reads them or allocates memory for
// them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace reformer {

// Checks every external tensor of a model: in initializers (also sparse ones), attributes,
// subgraphs, function bodies and training graphs. A location must be a plain file name, `listed`
// must return true for it, and it must be a regular file in the model's folder (no link may lead
// out of the folder). The tensor's bytes must lie inside the file. Throws Error (artifact) that
// names the tensor.
void check_external_data(const std::filesystem::path& folder, const std::string& model,
                         const std::function<bool(const std::string&)>& listed);

}  // namespace reformer
