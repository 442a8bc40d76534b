// libreformer_ops_torch: what torch.ops.load_library loads, or dlopen beside libtorch. Loading it
// registers torch.ops.reformer; the operators' bind_torch.cpp do so.
#include <cstdio>
#include <exception>

#include "isa.h"

// Writes the name of the instruction set the kernels run with, or why they do not run; 0 or 1.
extern "C" __attribute__((visibility("default"))) int reformer_ops_isa(char* text,
                                                                       std::size_t size) {
  try {
    std::snprintf(text, size, "%s", reformer::isa_name(reformer::active_isa()));
    return 0;
  } catch (const std::exception& error) {
    std::snprintf(text, size, "%s", error.what());
    return 1;
  }
}
