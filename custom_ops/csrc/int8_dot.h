// Products of 8-bit integers.
#pragma once

#include <cstdint>

#include "simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace reformer::REFORMER_ISA {

// How rows store integers from -127 to 127: std::int8_t if one instruction multiplies and sums 4
// products of 8-bit integers, std::int16_t if one does so for 2 products of 16-bit integers, float
// otherwise.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
using RowNumber = std::int8_t;
#elif defined(__x86_64__)
using RowNumber = std::int16_t;
#else
using RowNumber = float;
#endif

// Weights are unsigned with this zero point, because x86 multiplies unsigned with signed integers.
constexpr int kZeroPoint = 128;
// Consecutive lines of a column that lie side by side.
constexpr std::int64_t kQuad = 4;

// 4 weights of each column of a vector.
typedef std::uint8_t Quads __attribute__((vector_size(kLanes * 4), aligned(1), may_alias));

REFORMER_INLINE Quads load_quads(const std::uint8_t* from) {
  return *reinterpret_cast<const Quads*>(from);
}
REFORMER_INLINE void store_quads(std::uint8_t* to, Quads x) { *reinterpret_cast<Quads*>(to) = x; }

// The place of number `i` of a row. A row of 16-bit integers stores each quad in the order 0, 2, 1,
// 3, because Weights has the same pairs.
template <typename Number>
constexpr std::int64_t place_in_row(std::int64_t i) {
  if constexpr (sizeof(Number) == sizeof(std::int16_t))
    return (i & ~3) | (i & 1) << 1 | (i & 2) >> 1;
  else
    return i;
}

// Some rows of integers, each with the sum of its integers and its scale.
template <typename Number>
struct Int8Rows {
  const Number* data;
  std::int64_t stride;
  const std::int32_t* sums;
  const float* scales;
};

// For each number type: Weights has the 4 weights of each column of a vector, Four has 4 numbers of
// a row, and add() adds the products of both to sums.
template <typename Number>
struct Dot;

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
template <>
struct Dot<std::int8_t> {
  using Weights = Quads;
  using Four = std::int32_t;

  REFORMER_INLINE static Weights weights(Quads quads) { return quads; }
  REFORMER_INLINE static Four four(const std::int8_t* row) {
    Four four;
    __builtin_memcpy(&four, row, sizeof four);
    return four;
  }
  REFORMER_INLINE static Ints add(Ints sums, Weights weights, Four row) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums),
                                                      reinterpret_cast<__m512i>(weights),
                                                      _mm512_set1_epi32(row)));
#elif defined(__AVXVNNI__)
    return reinterpret_cast<Ints>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sums),
                                                          reinterpret_cast<__m256i>(weights),
                                                          _mm256_set1_epi32(row)));
#else
    // ARM multiplies signed with signed integers: x - 128 is x with its highest bit flipped.
    const int8x16_t centred = vreinterpretq_s8_u8(
        veorq_u8(reinterpret_cast<uint8x16_t>(weights), vdupq_n_u8(kZeroPoint)));
    return reinterpret_cast<Ints>(vdotq_s32(reinterpret_cast<int32x4_t>(sums), centred,
                                            vreinterpretq_s8_s32(vdupq_n_s32(row))));
#endif
  }
};
#elif defined(__x86_64__)
template <>
struct Dot<std::int16_t> {
  typedef std::uint16_t Pairs __attribute__((vector_size(kLanes * 4)));
  struct Weights {
    Pairs even, odd;  // weights 0 and 2 of each column, and 1 and 3
  };
  struct Four {
    Ints even, odd;
  };

  REFORMER_INLINE static Weights weights(Quads quads) {
    const Pairs pairs = reinterpret_cast<Pairs>(quads);
    return {pairs & 255, pairs >> 8};
  }
  REFORMER_INLINE static Four four(const std::int16_t* row) {
    std::int32_t pairs[2];
    __builtin_memcpy(pairs, row, sizeof pairs);
    return {broadcast(pairs[0]), broadcast(pairs[1])};
  }
  REFORMER_INLINE static Ints add(Ints sums, const Weights& weights, const Four& row) {
    return sums + products(weights.even, row.even) + products(weights.odd, row.odd);
  }

 private:
  // The sum of two products, in each column.
  REFORMER_INLINE static Ints products(Pairs weights, Ints row) {
#if defined(__AVX512F__)
    return reinterpret_cast<Ints>(
        _mm512_madd_epi16(reinterpret_cast<__m512i>(weights), reinterpret_cast<__m512i>(row)));
#elif defined(__AVX2__)
    return reinterpret_cast<Ints>(
        _mm256_madd_epi16(reinterpret_cast<__m256i>(weights), reinterpret_cast<__m256i>(row)));
#else
    return reinterpret_cast<Ints>(
        _mm_madd_epi16(reinterpret_cast<__m128i>(weights), reinterpret_cast<__m128i>(row)));
#endif
  }
};
#endif

// The zero point that is in the sums of Dot::add().
#if defined(__aarch64__)
constexpr std::int32_t kZeroPointInSums = 0;
#else
constexpr std::int32_t kZeroPointInSums = kZeroPoint;
#endif

// Multiplies the lines of a tile by the scales of their rows.
template <int Rows, int Vectors>
REFORMER_APART void scale_lines(Floats (&tile)[Rows][Vectors], const float* scales) {
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) tile[r][v] = tile[r][v] * scales[r];
}

// Writes the products of rows, of `quads` times 4 numbers, and Vectors * kLanes columns. The panels
// of the columns begin at first[0 .. Vectors).
template <int Rows, int Vectors, typename Number>
REFORMER_APART void multiply_int8(Floats (&to)[Rows][Vectors], const Int8Rows<Number>& rows,
                                  const std::uint8_t* const* first, std::int64_t quads) {
  constexpr std::int64_t kLine = 16 * kQuad;  // of a panel
  Ints sums[Rows][Vectors];
  const Number* row[Rows];
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
    typename Dot<Number>::Weights weights[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      weights[v] = Dot<Number>::weights(load_quads(panel[v] + quad * kLine));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto four = Dot<Number>::four(row[r] + quad * kQuad);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sums[r][v] = Dot<Number>::add(sums[r][v], weights[v], four);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      to[r][v] = __builtin_convertvector(sums[r][v], Floats) * rows.scales[r];
}

}  // namespace reformer::REFORMER_ISA
