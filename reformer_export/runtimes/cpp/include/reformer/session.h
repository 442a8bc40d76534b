// A model ready to run.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "reformer/artifact.h"
#include "reformer/export.h"
#include "reformer/tensor.h"

namespace reformer {

class Backend;

struct Options {
  std::string runtime = "auto";  // a name of runtimes(), or the fastest one that works here
  std::string ops = "auto";      // "native": our kernels; "portable": standard operators; "auto":
                                 // what REFORMER_OPS says, else native where they are
  int threads = 0;               // at most this many; 0 leaves it to the runtime
  std::string device = "cpu";  // or "cuda", "cuda:1": an NVIDIA GPU. On a GPU "auto" operators are
                               // "native". Engines run on the first GPU, whatever stands here.

  // libonnxruntime, or the folder it lies in. Where empty: what REFORMER_ONNXRUNTIME names, else
  // beside this program, in ../lib of it, or where the system looks.
  std::filesystem::path onnxruntime;
  // The folder of our kernels. Where empty: REFORMER_OPS_LIBRARY_DIR, else as above.
  std::filesystem::path ops_folder;
  // libtensorrt_rtx or libnvinfer, for engines, or its folder. Where empty: REFORMER_TENSORRT, else
  // as above.
  std::filesystem::path tensorrt;
  // The folder of an engine made from the artifact, which "auto" takes where it works here.
  std::filesystem::path engine;
};

// The names of all runtimes this library was built with, fastest first.
REFORMER_EXPORT std::vector<std::string> runtimes();

// Copies share the model. Any number of threads may call run() at the same time.
class REFORMER_EXPORT Session {
 public:
  // Throws Error: usage (an unknown runtime, or an artifact that native operators cannot run),
  // native, unavailable (nothing runs it here; says why), artifact.
  explicit Session(const Artifact& artifact, const Options& options = {});

  // Outputs in the order of the signature. `inputs` are held to Signature::check. Throws Error
  // (input, inference).
  NamedTensors run(const NamedTensors& inputs) const;

  const Signature& signature() const noexcept { return signature_; }
  // Short and stable ("onnxruntime"), and with versions, threads and kernels.
  const std::string& runtime() const noexcept { return runtime_; }
  const std::string& description() const noexcept;
  // What the user should know about the choice that was made: why a faster one was not.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::shared_ptr<const Backend> backend_;
  Signature signature_;
  std::string runtime_;
  std::vector<std::string> notes_;
};

}  // namespace reformer
