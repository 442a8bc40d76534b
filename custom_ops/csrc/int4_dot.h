// Products of 4-bit weights and 8-bit integers.
#pragma once

#include <cstdint>

#include "int8_dot.h"
#include "simd.h"

namespace reformer::REFORMER_ISA {

// Weights of 4 bits are unsigned with this zero point.
constexpr int kInt4ZeroPoint = 8;
// Consecutive lines of a column that have one step.
constexpr std::int64_t kInt4Block = 32;

// The steps of a block, one for each column of a vector.
class Int4Step {
 public:
  explicit Int4Step(const std::int8_t* steps) {
    typedef std::int8_t Steps __attribute__((vector_size(kLanes)));
    Steps stored;
    __builtin_memcpy(&stored, steps, sizeof stored);
    const Ints wide = __builtin_convertvector(stored, Ints);
    // Modulo 256, the same number for the 4 bytes of a column.
    factor_ = reinterpret_cast<Pairs>((wide & 255) * 0x00010001);
    zero_ = reinterpret_cast<Quads>(
        reinterpret_cast<Bits>((kZeroPoint - kInt4ZeroPoint * wide) & 255) * 0x01010101u);
  }

  // 4-bit integers times the steps, with the zero point of 8-bit weights.
  REFORMER_INLINE Quads times(Quads integers) const {
    const Pairs pairs = reinterpret_cast<Pairs>(integers);
    const Pairs products = ((pairs & 255) * factor_ & 255) | (pairs >> 8) * factor_ << 8;
    return reinterpret_cast<Quads>(products) + zero_;
  }

 private:
  typedef std::uint16_t Pairs __attribute__((vector_size(kLanes * 4)));
  Pairs factor_;
  Quads zero_;
};

// The same as multiply_int8 with the integers of a block times its step. A line of `first` has two
// quads: one in the lower and one in the upper 4 bits. The steps of the next block are 16 numbers
// after those of a block.
template <int Rows, int Vectors, typename Number>
REFORMER_APART void multiply_int4(Floats (&to)[Rows][Vectors], const Int8Rows<Number>& rows,
                                  const std::uint8_t* const* first,
                                  const std::int8_t* const* first_step, std::int64_t blocks) {
  constexpr std::int64_t kLine = 16 * kQuad, kLines = kInt4Block / (2 * kQuad);
  constexpr std::int64_t kAhead = 1024;  // bytes to prefetch
  // Dot takes weights with the zero point kZeroPoint if it removes that, and else with any.
  constexpr int kZero = kZeroPointInSums == 0 ? kZeroPoint : kInt4ZeroPoint;
  constexpr std::uint8_t kUp = kZero - kInt4ZeroPoint;
  const auto zeros = Dot<Number>::weights(Quads{} + static_cast<std::uint8_t>(kZero));
  Ints totals[Rows][Vectors]{};
  const std::uint8_t* panel[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) panel[v] = first[v];
  for (std::int64_t block = 0; block < blocks; ++block) {
    Ints sums[Rows][Vectors]{}, of_zeros[Rows]{};
#pragma GCC unroll 4
    for (std::int64_t line = 0; line < kLines; ++line) {
      const std::int64_t at = block * kLines + line;
      typename Dot<Number>::Four lower[Rows], upper[Rows];
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r) {
        const Number* eight = rows.data + r * rows.stride + at * 2 * kQuad;
        lower[r] = Dot<Number>::four(eight);
        upper[r] = Dot<Number>::four(eight + kQuad);
        of_zeros[r] =
            Dot<Number>::add(Dot<Number>::add(of_zeros[r], zeros, lower[r]), zeros, upper[r]);
      }
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const std::uint8_t* const pair = panel[v] + at * kLine;
        __builtin_prefetch(pair + kAhead);
        const Quads both = load_quads(pair);
        const auto low = Dot<Number>::weights((both & 15) + kUp),
                   high = Dot<Number>::weights((both >> 4) + kUp);
#pragma GCC unroll 2
        for (int r = 0; r < Rows; ++r)
          sums[r][v] =
              Dot<Number>::add(Dot<Number>::add(sums[r][v], low, lower[r]), high, upper[r]);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      typedef std::int8_t Steps __attribute__((vector_size(kLanes)));
      Steps steps;
      __builtin_memcpy(&steps, first_step[v] + block * 16, sizeof steps);
#pragma GCC unroll 2
      for (int r = 0; r < Rows; ++r)
        totals[r][v] += __builtin_convertvector(steps, Ints) * (sums[r][v] - of_zeros[r]);
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      to[r][v] = __builtin_convertvector(totals[r][v], Floats) * rows.scales[r];
}

}  // namespace reformer::REFORMER_ISA
