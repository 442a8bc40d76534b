// Converts rows of a tensor from and to fp32, for every storage type.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace reformer::REFORMER_ISA {

// IEEE binary16, as stored.
struct Half {
  std::uint16_t bits;
};

REFORMER_INLINE std::uint32_t float_bits(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
REFORMER_INLINE float from_float_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

REFORMER_INLINE float to_float(float x) { return x; }
REFORMER_INLINE float to_float(Half x) {
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  // The multiplication corrects the exponent's offset and normalises subnormals.
  std::uint32_t bits = float_bits(from_float_bits(magnitude << 13) * 0x1p112f);
  bits = magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : bits;
  return from_float_bits(bits | static_cast<std::uint32_t>(x.bits & 0x8000u) << 16);
}

REFORMER_INLINE void put(float& to, float x) { to = x; }
REFORMER_INLINE void put(Half& to, float x) {
  const std::uint32_t bits = float_bits(x), sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Round to nearest, ties to even. Adding 1/2 moves a subnormal's bits to the lowest bits.
  const std::uint32_t subnormal = float_bits(from_float_bits(magnitude) + 0.5f) - float_bits(0.5f);
  const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t result = magnitude < 0x38800000u    ? subnormal
                               : magnitude >= 0x47800000u ? special
                                                          : normal;
  to.bits = static_cast<std::uint16_t>(result | sign);
}

// Converts `count` numbers to fp32.
template <typename Stored>
REFORMER_INLINE void load_row(float* to, const Stored* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = to_float(from[i]);
}

// Stores `count` numbers of `from` times `scale`.
template <typename Stored>
REFORMER_INLINE void store_row(Stored* to, const float* from, float scale, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) put(to[i], from[i] * scale);
}

}  // namespace reformer::REFORMER_ISA
