// libreformer_ops_ort: what onnxruntime's SessionOptions::RegisterCustomOpsLibrary loads.
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

// The entry of session options that have our operators: the file that their kernels come from.
constexpr const char* kRegistered = "reformer.registered";

// Our operators, for sessions that take their kernels for GPUs from one file.
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
  Ort::CustomOpDomain domain{"reformer"};  // of our nodes, as spec.py has it
};

// Sessions refer to the operators, and nothing tells when the last session is gone, so the
// operators stay. A file that was replaced is another file: the time of its last change tells,
// which tools that unpack archives do not set.
const Operators& operators_for(const std::string& kernels) {
  using File = std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
  static std::mutex mutex;
  static auto& all = *new std::map<File, std::unique_ptr<const Operators>>;
  struct stat status{};
  if (!kernels.empty()) ::stat(kernels.c_str(), &status);  // if it fails, reading says why
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
    // For users to read. An unknown REFORMER_FORCE_ISA is an error here.
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
