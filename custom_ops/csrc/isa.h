// Which instruction set the kernels run with.
#pragma once

namespace reformer {

enum class Isa { baseline, avx2, avx512 };

// The best one this machine has, or what REFORMER_FORCE_ISA names ("baseline", "avx2", "avx512").
// Throws Error when that is unknown or the machine does not have it. On ARM "baseline" is NEON.
Isa active_isa();

// "baseline", "avx2", "avx512" or "neon".
const char* isa_name(Isa isa);

// A kernel's source is compiled for each instruction set, with REFORMER_ISA naming the namespace,
// and once with REFORMER_ONCE too (CMakeLists.txt). In the part under REFORMER_ONCE,
// REFORMER_DISPATCH(function) declares `function` of the other namespaces, with the type that the
// source has defined, and defines active_<function>(), which returns the one for active_isa().
#if defined(__x86_64__)
#define REFORMER_DISPATCH(function)                  \
  namespace avx2 {                                   \
  decltype(baseline::function) function;             \
  }                                                  \
  namespace avx512 {                                 \
  decltype(baseline::function) function;             \
  }                                                  \
  inline auto* active_##function() {                 \
    const Isa isa = active_isa();                    \
    return isa == Isa::avx512 ? &avx512::function    \
           : isa == Isa::avx2 ? &avx2::function      \
                              : &baseline::function; \
  }
#else
#define REFORMER_DISPATCH(function) \
  inline auto* active_##function() { return &baseline::function; }
#endif

}  // namespace reformer
