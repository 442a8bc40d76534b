// Which instruction set the kernels run with.
#pragma once

namespace reformer {

enum class Isa { baseline, avx2, avx512 };

// The best one this machine has, or what REFORMER_FORCE_ISA names ("baseline", "avx2", "avx512").
// Throws Error when that is unknown or the machine does not have it. On ARM "baseline" is NEON.
Isa active_isa();

// "baseline", "avx2", "avx512" or "neon".
const char* isa_name(Isa isa);

// The function of this name that is compiled for active_isa().
#if defined(__x86_64__)
#define REFORMER_FOR_ISA(function)                \
  (active_isa() == Isa::avx512 ? avx512::function \
   : active_isa() == Isa::avx2 ? avx2::function   \
                               : baseline::function)
#else
#define REFORMER_FOR_ISA(function) (baseline::function)
#endif

}  // namespace reformer
