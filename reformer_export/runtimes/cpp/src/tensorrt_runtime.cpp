// The entry of the runtime for engines, with the checks that need no GPU.
#include "engine.h"
#include "messages.h"
#include "tensorrt_backend.h"

namespace reformer {
namespace {

std::unique_ptr<Backend> open(const Artifact& artifact, const Options& options,
                              std::vector<std::string>&) {
  if (!artifact.manifest().engine)
    fail(ErrorKind::usage, artifact.path().string(),
         " is an artifact, and TensorRT runs engines: build one with reformer-export to-tensorrt");
#ifdef REFORMER_TENSORRT
  return open_tensorrt(artifact, load_tensorrt(artifact, options));
#else
  (void)options;
  return nullptr;
#endif
}

}  // namespace

Runtime tensorrt_runtime() {
#ifdef REFORMER_TENSORRT
  const char* absent = nullptr;
#else
  const char* absent =
      "this program was built without the headers of TensorRT and cannot run engines: build it "
      "with -DTENSORRT_INCLUDE_DIR=FOLDER";
#endif
  return {kEngineFormat, kEngineFormat, "to-tensorrt", absent, true, open};
}

}  // namespace reformer
