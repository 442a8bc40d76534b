// libreformer_ops_ort: what onnxruntime's SessionOptions::RegisterCustomOpsLibrary loads.
#include <string>

#include "isa.h"
#include "ort_binding.h"

namespace {

// Its name is the domain of our nodes, as spec.py has it.
Ort::CustomOpDomain make_domain() {
  Ort::CustomOpDomain domain("reformer");
  for (const OrtCustomOp* op : reformer::ort::operators()) domain.Add(op);
  return domain;
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
    // For whoever wants to know, and so that a wrong REFORMER_FORCE_ISA shows here.
    const char* isa = reformer::isa_name(reformer::active_isa());
    static Ort::CustomOpDomain domain = make_domain();  // sessions refer to it
    Ort::UnownedSessionOptions session(options);
    session.Add(domain).AddConfigEntry("reformer.isa", isa);
  });
}
