// A model that is ready to run.
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
  std::string runtime = "auto";  // a name of runtimes(); "auto": the fastest that works here
  std::string ops = "auto";    // "native": our kernels; "portable": standard operators; "auto": the
                               // value of REFORMER_OPS, else native if installed
  int threads = 0;             // maximum; 0: the runtime decides
  std::string device = "cpu";  // or "cuda", "cuda:1": an NVIDIA GPU. On a GPU, "auto" operators are
                               // "native". Engines always run on the first GPU.

  // libonnxruntime or its folder. If empty: the value of REFORMER_ONNXRUNTIME, else the library is
  // searched in the folders of this library and program, in ../lib, and in the system's folders.
  std::filesystem::path onnxruntime;
  // The folder of our kernels. If empty: the value of REFORMER_OPS_LIBRARY_DIR, else the folders of
  // this library and program, and ../lib.
  std::filesystem::path ops_folder;
  // For engines: libtensorrt_rtx or libnvinfer, or its folder. If empty: the value of
  // REFORMER_TENSORRT, else it is searched like libonnxruntime.
  std::filesystem::path tensorrt;
  // The folder of an engine that was built from the artifact. The runtime "auto" uses the engine if
  // it works here.
  std::filesystem::path engine;
};

// The names of the runtimes that this library was built with, fastest first.
REFORMER_EXPORT std::vector<std::string> runtimes();

// Copies share the model. Any number of threads may call run() at the same time.
class REFORMER_EXPORT Session {
 public:
  // Throws Error: usage (unknown runtime, or native operators cannot run the artifact), native,
  // unavailable (no runtime can run it here), artifact.
  explicit Session(const Artifact& artifact, const Options& options = {});

  // Returns the outputs in the order of the signature. Checks `inputs` with Signature::check.
  // Throws Error (input, inference).
  NamedTensors run(const NamedTensors& inputs) const;

  const Signature& signature() const noexcept { return signature_; }
  // runtime() is a short, stable name ("onnxruntime"); description() adds versions, threads and
  // kernels.
  const std::string& runtime() const noexcept { return runtime_; }
  const std::string& description() const noexcept;
  // Notes for the user, such as the reason why a faster runtime or kernel was not chosen.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::shared_ptr<const Backend> backend_;
  Signature signature_;
  std::string runtime_;
  std::vector<std::string> notes_;
};

}  // namespace reformer
