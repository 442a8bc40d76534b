// Products of 8-bit integers by the dot product instructions of newer processors.
#pragma once

#include <cstdint>

#include "simd.h"

#if defined(__x86_64__) && defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace reformer::REFORMER_ISA {

// Weights are unsigned with this zero point, because x86 multiplies unsigned with signed integers.
constexpr int kZeroPoint = 128;
// Consecutive lines of a column that lie side by side: one instruction multiplies and sums them.
constexpr std::int64_t kQuad = 4;

// 4 weights of each column of a vector.
typedef std::uint8_t Quads __attribute__((vector_size(kLanes * 4), aligned(1), may_alias));

REFORMER_INLINE Quads load_quads(const std::uint8_t* from) {
  return *reinterpret_cast<const Quads*>(from);
}
REFORMER_INLINE void store_quads(std::uint8_t* to, Quads x) { *reinterpret_cast<Quads*>(to) = x; }

// The instructions belong to functions, not to a compilation: kernels for AVX-512 also run on
// processors that have AVX-512 without them.
#if defined(__AVX512F__)
#define REFORMER_INT8_DOT __attribute__((target("avx512vnni")))
inline bool has_int8_dot() { return __builtin_cpu_supports("avx512vnni"); }
#elif defined(__AVX2__) && (defined(__clang__) || __GNUC__ >= 12)
#define REFORMER_INT8_DOT __attribute__((target("avxvnni")))
inline bool has_int8_dot() { return __builtin_cpu_supports("avxvnni"); }
#elif defined(__aarch64__)
#define REFORMER_INT8_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
inline bool has_int8_dot() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
#endif

#ifdef REFORMER_INT8_DOT

// sums + the products of 4 weights of each column with 4 numbers of a row.
REFORMER_INT8_DOT inline Ints add_dot(Ints sums, Quads weights, std::int32_t row) {
#if defined(__AVX512F__)
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(weights), _mm512_set1_epi32(row)));
#elif defined(__AVX2__)
  return reinterpret_cast<Ints>(_mm256_dpbusd_avx_epi32(
      reinterpret_cast<__m256i>(sums), reinterpret_cast<__m256i>(weights), _mm256_set1_epi32(row)));
#else
  // ARM multiplies signed with signed integers: x - 128 is x with its highest bit flipped.
  const int8x16_t centred =
      vreinterpretq_s8_u8(veorq_u8(reinterpret_cast<uint8x16_t>(weights), vdupq_n_u8(kZeroPoint)));
  return reinterpret_cast<Ints>(vdotq_s32(reinterpret_cast<int32x4_t>(sums), centred,
                                          vreinterpretq_s8_s32(vdupq_n_s32(row))));
#endif
}

// The zero point that is in the sums of add_dot.
#if defined(__aarch64__)
constexpr std::int32_t kZeroPointInSums = 0;
#else
constexpr std::int32_t kZeroPointInSums = kZeroPoint;
#endif

// Some rows of integers, each with the sum of its integers and its scale.
struct Int8Rows {
  const std::int8_t* data;
  std::int64_t stride;
  const std::int32_t* sums;
  const float* scales;
};

// Writes the products of rows, of `quads` times 4 numbers, and Vectors * kLanes columns. The panels
// of the columns begin at first[0 .. Vectors).
template <int Rows, int Vectors>
REFORMER_INT8_DOT void multiply_int8(float (&to)[Rows][Vectors * kLanes], const Int8Rows& rows,
                                     const std::uint8_t* const* first, std::int64_t quads) {
  constexpr std::int64_t kLine = 16 * kQuad;  // of a panel
  Ints sums[Rows][Vectors];
  const std::int8_t* row[Rows];
  const std::uint8_t* panel[Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    row[r] = rows.data + r * rows.stride;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sums[r][v] = broadcast(-kZeroPointInSums * rows.sums[r]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) panel[v] = first[v];
  for (std::int64_t quad = 0; quad < quads; ++quad) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      std::int32_t four;
      __builtin_memcpy(&four, row[r] + quad * kQuad, sizeof four);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        sums[r][v] = add_dot(sums[r][v], load_quads(panel[v] + quad * kLine), four);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      store(to[r] + v * kLanes, __builtin_convertvector(sums[r][v], Floats) * rows.scales[r]);
}

#endif

}  // namespace reformer::REFORMER_ISA
