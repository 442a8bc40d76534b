#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "common.h"

namespace reformer {
namespace {

bool has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::avx512:  // x86-64-v4
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && has(Isa::avx2);
    case Isa::avx2:  // x86-64-v3
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    case Isa::baseline:
      return true;
  }
  return false;
#else
  return isa == Isa::baseline;
#endif
}

Isa choose() {
  const char* forced = std::getenv("REFORMER_FORCE_ISA");
  for (Isa isa : {Isa::avx512, Isa::avx2, Isa::baseline}) {
    if (forced == nullptr || *forced == '\0') {
      if (has(isa)) return isa;
    } else if (std::strcmp(forced, isa_name(isa)) == 0) {
      if (has(isa)) return isa;
      throw Error("REFORMER_FORCE_ISA asks for " + std::string(forced) +
                  ", which this machine does not have: unset it, or name another");
    }
  }
  throw Error("REFORMER_FORCE_ISA asks for " + std::string(forced) +
              ", which is unknown here: name avx512, avx2 or baseline (neon on ARM)");
}

}  // namespace

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
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
