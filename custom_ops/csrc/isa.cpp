#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "common.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace reformer {
namespace {

#if defined(__x86_64__)
// The best comes first.
constexpr Isa kIsas[] = {Isa::avx512_vnni, Isa::avx512, Isa::avx2_vnni, Isa::avx2, Isa::baseline};

bool has(Isa isa) {
  __builtin_cpu_init();
  switch (isa) {
    case Isa::avx512_vnni:
      return __builtin_cpu_supports("avx512vnni") && has(Isa::avx512);
    case Isa::avx512:  // x86-64-v4
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && has(Isa::avx2);
    case Isa::avx2_vnni:
      return __builtin_cpu_supports("avxvnni") && has(Isa::avx2);
    case Isa::avx2:  // x86-64-v3
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    default:
      return isa == Isa::baseline;
  }
}
#elif defined(__aarch64__)
constexpr Isa kIsas[] = {Isa::baseline_dot, Isa::baseline};

bool has(Isa isa) { return isa == Isa::baseline || getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
#else
constexpr Isa kIsas[] = {Isa::baseline};

bool has(Isa) { return true; }
#endif

Isa choose() {
  const char* forced = std::getenv("REFORMER_FORCE_ISA");
  std::string names;
  for (Isa isa : kIsas) {
    names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
    if (forced == nullptr || *forced == '\0') {
      if (has(isa)) return isa;
    } else if (std::strcmp(forced, isa_name(isa)) == 0) {
      if (has(isa)) return isa;
      throw Error("REFORMER_FORCE_ISA asks for " + std::string(forced) +
                  ", which this machine does not have: unset it, or name another");
    }
  }
  throw Error("REFORMER_FORCE_ISA asks for " + std::string(forced) +
              ", which is unknown here: name one of " + names);
}

}  // namespace

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512_vnni:
      return "avx512_vnni";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2_vnni:
      return "avx2_vnni";
    case Isa::avx2:
      return "avx2";
    case Isa::baseline_dot:
      return "neon_dot";
    case Isa::baseline:
      break;
  }
#if defined(__aarch64__)
  return "neon";
#else
  return "baseline";
#endif
}

}  // namespace reformer
