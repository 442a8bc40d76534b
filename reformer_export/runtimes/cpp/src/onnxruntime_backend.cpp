// Runs model.onnx in ONNX Runtime, on the CPU or a GPU.
#include <memory>

#include "backend.h"
#include "manifest.h"
#include "messages.h"
#include "onnxruntime_opener.h"

namespace reformer {
namespace {

class OnnxRuntimeBackend : public Backend {
 public:
  OnnxRuntimeBackend(const Artifact& artifact, const Options& options,
                     std::vector<std::string>& notes)
      : opener_(artifact, kOnnxFormat, options, notes),
        signature_(artifact.signature()),
        session_(opener_.open(artifact.manifest().formats.at(kOnnxFormat).file())) {
    description = opener_.description();
  }

  NamedTensors run(const NamedTensors& inputs) const override {
    std::vector<const char*> input_names, output_names;
    std::vector<Ort::Value> feeds;
    try {
      for (const auto& [name, tensor] : inputs) {
        input_names.push_back(name.c_str());
        feeds.push_back(opener_.value_of(tensor));
      }
      for (const TensorSpec& spec : signature_.outputs) output_names.push_back(spec.name.c_str());
      // Ort::Session::Run is not const, but threads may call it at the same time.
      auto results = const_cast<Ort::Session&>(session_).Run(
          Ort::RunOptions{nullptr}, input_names.data(), feeds.data(), feeds.size(),
          output_names.data(), output_names.size());
      NamedTensors outputs;
      for (std::size_t i = 0; i < results.size(); ++i) {
        const TensorSpec& spec = signature_.outputs[i];
        outputs.emplace_back(spec.name, tensor_from(std::move(results[i]), spec));
      }
      return outputs;
    } catch (const Ort::Exception& error) {
      fail(ErrorKind::inference, "onnxruntime failed on ", signature_.extent(inputs), ": ",
           one_line(error.what()));
    }
  }

 private:
  const OnnxRuntimeOpener opener_;
  const Signature signature_;
  Ort::Session session_;
};

}  // namespace

Runtime onnxruntime_runtime() {
  return {"onnxruntime",
          kOnnxFormat,
          "to-onnx",
          nullptr,
          true,
          [](const Artifact& artifact, const Options& options, std::vector<std::string>& notes) {
            return std::unique_ptr<Backend>(
                std::make_unique<OnnxRuntimeBackend>(artifact, options, notes));
          }};
}

}  // namespace reformer
