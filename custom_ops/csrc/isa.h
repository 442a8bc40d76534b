// Chooses the instruction set of the kernels.
#pragma once

namespace reformer {

enum class Isa { baseline, baseline_dot, avx2, avx2_vnni, avx512, avx512_vnni };

// The best instruction set of this machine, or the one that REFORMER_FORCE_ISA names. Throws Error
// if that is unknown or the machine does not have it. On ARM, the baseline is NEON.
Isa active_isa();

// "baseline", "avx2", "avx2_vnni", "avx512" or "avx512_vnni"; on ARM "neon" or "neon_dot".
const char* isa_name(Isa isa);

// CMakeLists.txt compiles each kernel.cpp once for each instruction set; REFORMER_ISA is the
// namespace. Only the compilation for the baseline defines REFORMER_ONCE. In that part of the
// source, REFORMER_DISPATCH(function) declares `function` in the namespaces of the other
// instruction sets, and defines active_<function>(), which returns a pointer to the function for
// active_isa().
#define REFORMER_DECLARE(isa, function)  \
  namespace isa {                        \
  decltype(baseline::function) function; \
  }

#if defined(__x86_64__)
#define REFORMER_DISPATCH(function)  \
  REFORMER_DECLARE(avx2, function)   \
  REFORMER_DECLARE(avx512, function) \
  inline auto* active_##function() { \
    switch (active_isa()) {          \
      case Isa::avx512:              \
      case Isa::avx512_vnni:         \
        return &avx512::function;    \
      case Isa::avx2:                \
      case Isa::avx2_vnni:           \
        return &avx2::function;      \
      default:                       \
        return &baseline::function;  \
    }                                \
  }
#else
#define REFORMER_DISPATCH(function) \
  inline auto* active_##function() { return &baseline::function; }
#endif

// The same for kernels that are also compiled for the instructions that sum products of 8-bit
// integers: VNNI on x86, dot product on ARM.
#if defined(__x86_64__)
#define REFORMER_DISPATCH_INT8(function)  \
  REFORMER_DECLARE(avx2, function)        \
  REFORMER_DECLARE(avx2_vnni, function)   \
  REFORMER_DECLARE(avx512, function)      \
  REFORMER_DECLARE(avx512_vnni, function) \
  inline auto* active_##function() {      \
    switch (active_isa()) {               \
      case Isa::avx512_vnni:              \
        return &avx512_vnni::function;    \
      case Isa::avx512:                   \
        return &avx512::function;         \
      case Isa::avx2_vnni:                \
        return &avx2_vnni::function;      \
      case Isa::avx2:                     \
        return &avx2::function;           \
      default:                            \
        return &baseline::function;       \
    }                                     \
  }
#elif defined(__aarch64__)
#define REFORMER_DISPATCH_INT8(function)                                                      \
  REFORMER_DECLARE(baseline_dot, function)                                                    \
  inline auto* active_##function() {                                                          \
    return active_isa() == Isa::baseline_dot ? &baseline_dot::function : &baseline::function; \
  }
#else
#define REFORMER_DISPATCH_INT8(function) REFORMER_DISPATCH(function)
#endif

}  // namespace reformer
