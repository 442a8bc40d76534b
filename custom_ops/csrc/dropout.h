// Counter-based dropout: a hash of the seed, the row and the column of an element decides if it is
// kept. The backward pass computes the same hash, so no mask is stored. docs/ops.md defines the
// hash.
#pragma once

#include <cstdint>

namespace reformer {

struct Dropout {
  std::uint64_t seed = 0;
  std::uint32_t threshold = 0;  // an element is dropped if its hash is smaller
  float scale = 1.0f;           // factor of the elements that are kept

  Dropout() = default;
  // `probability` of dropping, in [0, 1).
  Dropout(std::int64_t seed, double probability)
      : seed(static_cast<std::uint64_t>(seed)),
        threshold(static_cast<std::uint32_t>(probability * 0x1p32)),
        scale(static_cast<float>(1.0 / (1.0 - probability))) {}

  bool drops() const { return threshold > 0; }

  // The dropout of a part of the matrix: its row 0 is row `first` of the whole matrix.
  Dropout from_row(std::uint64_t first) const {
    Dropout part = *this;
    part.seed += first * kRowStep;
    return part;
  }

  // The part of the hash that depends on the row: the upper half of number `row` of SplitMix64.
  std::uint32_t row_key(std::uint64_t row) const {
    std::uint64_t x = seed + (row + 1) * kRowStep;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>((x ^ x >> 31) >> 32);
  }

  // True (as comparisons of `Bits` give it) if the element is kept. `Bits` is std::uint32_t or a
  // vector of such numbers.
  template <typename Bits>
  __attribute__((always_inline)) auto keeps(Bits row_key, Bits column) const {
    // The hash lowbias32 without its last step: that step improves the lower half, and here the
    // upper half decides.
    Bits x = row_key ^ column;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x >= threshold;
  }

 private:
  static constexpr std::uint64_t kRowStep = 0x9e3779b97f4a7c15u;
};

}  // namespace reformer
