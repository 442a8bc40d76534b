// Chooses the instruction set of the kernels.
#pragma once

namespace reformer {

enum class Isa { baseline, avx2, avx512 };

// The best instruction set of this machine, or the one that REFORMER_FORCE_ISA names ("baseline",
// "avx2", "avx512"). Throws Error if that is unknown or the machine does not have it. On ARM,
// "baseline" is NEON.
Isa active_isa();

// "baseline", "avx2", "avx512" or "neon".
const char* isa_name(Isa isa);

// CMakeLists.txt compiles each kernel.cpp once for each instruction set; REFORMER_ISA is the
// namespace. Only the compilation for the baseline defines REFORMER_ONCE. In that part of the
// source, REFORMER_DISPATCH(function) declares `function` in the namespaces of the other
// instruction sets, and defines active_<function>(), which returns a pointer to the function for
// active_isa().
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
