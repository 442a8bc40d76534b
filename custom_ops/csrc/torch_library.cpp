// libreformer_ops_torch, for torch.ops.load_library, or for dlopen in a process with libtorch. When
// it is loaded, the bind_torch.cpp of the operators register torch.ops.reformer.
#include <cstdio>
#include <exception>

#include "isa.h"

// Writes the name of the instruction set and returns 0, or writes why the kernels cannot run and
// returns 1.
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
