#include "reformer/session.h"

#include <algorithm>

#include "backend.h"
#include "words.h"

namespace reformer {

const std::vector<Runtime>& all_runtimes() {
  static const std::vector<Runtime> all{
      onnxruntime_runtime(),
#ifdef REFORMER_LIBTORCH
      torchscript_runtime(),
#endif
  };
  return all;
}

std::vector<std::string> runtimes() {
  std::vector<std::string> names;
  for (const Runtime& runtime : all_runtimes()) names.emplace_back(runtime.name);
  return names;
}

Session::Session(const Artifact& artifact, const Options& options)
    : signature_(artifact.signature()) {
  const std::vector<std::string> names = runtimes();
  const bool any = options.runtime == "auto";
  if (!any && std::find(names.begin(), names.end(), options.runtime) == names.end())
    fail(ErrorKind::usage, "unknown runtime ", repr(options.runtime), ": choose auto or one of ",
         joined(names));
  if (options.threads < 0)
    fail(ErrorKind::usage, "--threads ", std::to_string(options.threads),
         ": at least one thread is needed");

  const std::vector<std::string> formats = artifact.formats();
  std::vector<std::string> reasons;
  for (const Runtime& runtime : all_runtimes()) {
    if (!any && options.runtime != runtime.name) continue;
    if (std::find(formats.begin(), formats.end(), runtime.format) == formats.end()) {
      if (any) continue;
      fail(ErrorKind::usage, artifact.path().string(), " holds no ", runtime.format, ", but ",
           joined(formats, " and "), ": choose another runtime, or add it with reformer-export ",
           runtime.verb);
    }
    try {
      backend_ = runtime.open(artifact, options, notes_);
      runtime_ = runtime.name;
      break;
    } catch (const Error& error) {
      // Another runtime may do; whatever else is wrong would be wrong there too.
      if (!any || error.kind() != ErrorKind::unavailable) throw;
      reasons.emplace_back(error.what());
    }
  }
  if (backend_ == nullptr && reasons.empty())
    fail(ErrorKind::usage, artifact.path().string(), " holds ", joined(formats, " and "),
         ", and this program runs ", joined(names), ": add a model with reformer-export to-onnx");
  if (backend_ == nullptr) fail(ErrorKind::unavailable, joined(reasons, "; "));
  for (const std::string& reason : reasons) notes_.push_back(runtime_ + " runs, since " + reason);
}

NamedTensors Session::run(const NamedTensors& inputs) const {
  return backend_->run(signature_.check(inputs));
}

const std::string& Session::description() const noexcept { return backend_->description; }

}  // namespace reformer
