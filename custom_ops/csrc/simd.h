// Vectors of floats for the instruction set of the compilation. With the vector extensions of GCC
// and Clang, one source serves AVX-512, AVX2, SSE2 and NEON, without intrinsics.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifndef REFORMER_ISA
#error "REFORMER_ISA names the namespace of this instruction set: see CMakeLists.txt"
#endif

#define REFORMER_INLINE inline __attribute__((always_inline))
#define REFORMER_LAMBDA __attribute__((always_inline))
// For products that are added to something later: where the compiler sees both, it fuses them on
// some machines, and the result differs from that of others.
#define REFORMER_APART __attribute__((noinline))

namespace reformer::REFORMER_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kPanelVectors = 4;  // vectors side by side in a register tile
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kPanelVectors = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kPanelVectors = 4;
#else
constexpr int kLanes = 4;
constexpr int kPanelVectors = 2;
#endif
constexpr int kPanel = kLanes * kPanelVectors;
constexpr int kTileRows = 6;  // rows of a register tile: 24 of 32 registers, or 12 of 16

// Loads and stores may be unaligned.
typedef float Floats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
// Unsigned, because arithmetic on bit patterns may wrap.
typedef std::uint32_t Bits __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

REFORMER_INLINE Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
REFORMER_INLINE Ints load(const std::int32_t* from) { return *reinterpret_cast<const Ints*>(from); }
REFORMER_INLINE Bits load(const std::uint32_t* from) {
  return *reinterpret_cast<const Bits*>(from);
}
REFORMER_INLINE void store(float* to, Floats x) { *reinterpret_cast<Floats*>(to) = x; }
REFORMER_INLINE void store(std::int32_t* to, Ints x) { *reinterpret_cast<Ints*>(to) = x; }
REFORMER_INLINE Floats broadcast(float x) { return x - Floats{}; }
REFORMER_INLINE Ints broadcast(std::int32_t x) { return x - Ints{}; }
REFORMER_INLINE Bits broadcast(std::uint32_t x) { return x - Bits{}; }
REFORMER_INLINE Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
REFORMER_INLINE Floats minimum(Floats a, Floats b) { return a < b ? a : b; }

// e**x for x <= 0, within 2 units in the last place; exactly 0 below the smallest normal number.
REFORMER_INLINE Floats exp_of_negative(Floats x) {
  const Floats clamped = maximum(x, broadcast(-87.3f));
  const Floats rounder = broadcast(12582912.0f);  // 1.5 * 2**23: adding it rounds to an integer
  const Floats shifted = clamped * 1.44269504088896341f + rounder;
  const Floats power = shifted - rounder;
  // The remainder of x after whole powers of two, in two steps to keep it exact.
  Floats rest = clamped - power * 0.693359375f;
  rest = rest - power * -2.12194440e-4f;
  Floats series = broadcast(1.9875691500e-4f);
  series = series * rest + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  const Floats value = series * (rest * rest) + (rest + 1.0f);
  const Bits exponent = (reinterpret_cast<Bits>(shifted) - reinterpret_cast<Bits>(rounder)) << 23;
  const Floats scaled = reinterpret_cast<Floats>(reinterpret_cast<Bits>(value) + exponent);
  return x < -87.3f ? Floats{} : scaled;
}

// The natural logarithm of x >= 1, within 1 unit in the last place.
REFORMER_INLINE Floats log_from_one(Floats x) {
  // x = mantissa * 2**exponent with the mantissa in [sqrt(1/2), sqrt(2)).
  const Bits bits = reinterpret_cast<Bits>(x);
  const Ints exponent = reinterpret_cast<Ints>(bits - 0x3f3504f3u) >> 23;
  const Floats mantissa = reinterpret_cast<Floats>(bits - (reinterpret_cast<Bits>(exponent) << 23));
  const Floats power = __builtin_convertvector(exponent, Floats);
  const Floats t = mantissa - 1.0f;
  const Floats square = t * t;
  Floats series = broadcast(7.0376836292e-2f);
  series = series * t - 1.1514610310e-1f;
  series = series * t + 1.1676998740e-1f;
  series = series * t - 1.2420140846e-1f;
  series = series * t + 1.4249322787e-1f;
  series = series * t - 1.6668057665e-1f;
  series = series * t + 2.0000714765e-1f;
  series = series * t - 2.4999993993e-1f;
  series = series * t + 3.3333331174e-1f;
  Floats tail = series * t * square;
  tail = tail + power * -2.12194440e-4f;
  tail = tail - square * 0.5f;
  return (t + tail) + power * 0.693359375f;
}

// Transposes kLanes vectors in registers: swaps rows[i][j] and rows[j][i].
REFORMER_INLINE void transpose(Floats (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int block = 1; block < kLanes; block *= 2) {
    Ints low, high;  // lane indices into the pair (a, b)
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool second = lane & block;
      low[lane] = second ? kLanes + lane - block : lane;
      high[lane] = second ? kLanes + lane : lane + block;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & block) continue;
      const Floats a = rows[i], b = rows[i + block];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + block] = __builtin_shuffle(a, b, high);
    }
  }
}

constexpr std::int64_t round_up(std::int64_t size, std::int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

}  // namespace reformer::REFORMER_ISA
