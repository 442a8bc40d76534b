// Dropout by counters: a seed, the row and the column of an element tell whether it stays, so that
// a backward pass finds the same ones again and nothing is kept for it. docs/ops.md has the hash.
#pragma once

#include <cstdint>

namespace reformer {

struct Dropout {
  std::uint64_t seed = 0;
  std::uint32_t threshold = 0;  // an element is dropped where its hash is below
  float scale = 1.0f;           // of what stays

  Dropout() = default;
  // Drops a share `probability` in [0, 1).
  Dropout(std::int64_t seed, double probability)
      : seed(static_cast<std::uint64_t>(seed)),
        threshold(static_cast<std::uint32_t>(probability * 0x1p32)),
        scale(static_cast<float>(1.0 / (1.0 - probability))) {}

  bool drops() const { return threshold > 0; }

  // The same for a part of the matrix, whose row 0 is the whole's row `first`.
  Dropout from_row(std::uint64_t first) const {
    Dropout part = *this;
    part.seed += first * kRowStep;
    return part;
  }

  // What a row brings to the hashes of its elements: the upper half of SplitMix64's number `row`.
  std::uint32_t row_key(std::uint64_t row) const {
    std::uint64_t x = seed + (row + 1) * kRowStep;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>((x ^ x >> 31) >> 32);
  }

  // Where elements stay, as comparisons of `Bits` tell it: unsigned 32-bit numbers in a vector, of
  // whatever instruction set, or one of them.
  template <typename Bits>
  __attribute__((always_inline)) auto keeps(Bits row_key, Bits column) const {
    // lowbias32 without its last step, which mends the lower half: here the upper one decides.
    Bits x = row_key ^ column;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x >= threshold;
  }

 private:
  static constexpr std::uint64_t kRowStep = 0x9e3779b97f4a7c15u;
};

}  // namespace reformer
