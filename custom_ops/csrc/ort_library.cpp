// libreformer_ops_ort: the library for onnxruntime's SessionOptions::RegisterCustomOpsLibrary.
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "isa.h"
#include "ort_binding.h"
#include "ort_cuda.h"

namespace {

using reformer::ort::Kernels;

// An entry that is set in session options with our operators: the path of their kernel file.
constexpr const char* kRegistered = "reformer.registered";

// Our operators, for sessions that use the same file of GPU kernels.
struct Operators {
  explicit Operators(const Kernels& kernels) {
    for (const auto& make : reformer::ort::operators()) {
      auto op = make(kernels);
      if (op == nullptr) continue;
      domain.Add(op.get());
      all.push_back(std::move(op));
    }
  }

  std::vector<std::shared_ptr<const OrtCustomOp>> all;
  Ort::CustomOpDomain domain{"reformer"};  // of our nodes, as in spec.py
};

// Sessions refer to the operators, and there is no notice when the last session ends, so the
// operators are kept. A file that was replaced counts as another file. The time of its last status
// change shows this, because tools that unpack archives do not set that time.
const Operators& operators_for(const std::string& kernels) {
  using File = std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
  static std::mutex mutex;
  static auto& all = *new std::map<File, std::unique_ptr<const Operators>>;
  struct stat status{};
  if (!kernels.empty()) ::stat(kernels.c_str(), &status);  // if it fails, reading reports why
  const File file{kernels, static_cast<std::int64_t>(status.st_ino), status.st_size,
                  status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
  const std::lock_guard<std::mutex> lock(mutex);
  auto& found = all[file];
  if (found == nullptr) {
    Kernels read;
    if (!kernels.empty()) read = std::make_shared<const reformer::cuda::KernelFile>(kernels);
    found = std::make_unique<const Operators>(read);
  }
  return *found;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(reformer::ort::kApiVersion);
  if (api == nullptr) {
    const std::string message = "reformer's operators need onnxruntime 1.21 or later; this is " +
                                std::string(base->GetVersionString());
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  Ort::InitApi(api);
  return reformer::ort::as_status([&] {
    // Users can read it in the options. An unknown REFORMER_FORCE_ISA is an error here.
    const char* isa = reformer::isa_name(reformer::active_isa());
    Ort::UnownedSessionOptions session(options);
    const std::string kernels = session.GetConfigEntryOrDefault(reformer::ort::kKernelsEntry, "");
    if (session.HasConfigEntry(kRegistered)) {
      if (session.GetConfigEntry(kRegistered) == kernels) return;
      throw std::runtime_error(
          std::string("reformer's operators are registered in these session options already, with "
                      "other kernels: set ") +
          reformer::ort::kKernelsEntry + " before the library is registered");
    }
    session.Add(operators_for(kernels).domain)
        .AddConfigEntry("reformer.isa", isa)
        .AddConfigEntry(kRegistered, kernels.c_str());
  });
}
