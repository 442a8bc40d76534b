// Which instruction set the kernels run with.
#pragma once

namespace reformer {

enum class Isa { baseline, avx2, avx512 };

// The best one this machine has, or what REFORMER_FORCE_ISA names ("baseline", "avx2", "avx512").
// Throws Error when that is unknown or the machine does not have it. On ARM "baseline" is NEON.
Isa active_isa();

// "baseline", "avx2", "avx512" or "neon".
const char* isa_name(Isa isa);

}  // namespace reformer
