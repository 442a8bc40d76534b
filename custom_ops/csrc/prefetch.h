// Loads scattered rows into the cache during other computations.
#pragma once

#include <cstdint>

#include "simd.h"

namespace reformer::REFORMER_ISA {

// Prefetches rows that are needed soon, a few at each step. Hardware cannot predict which rows are
// next, and prefetching all of them at once helps little.
class RowPrefetch {
 public:
  explicit RowPrefetch(std::int64_t row_bytes) : row_bytes_(row_bytes) {}

  // Removes all rows. Rows that are added from now on are spread over `steps`.
  void restart(std::int64_t steps) {
    steps_ = steps;
    streams_ = current_ = row_ = 0;
    rows_per_step_ = 0;
  }

  // Adds the rows of `tensor` (`stride` bytes apart) at `count` positions.
  void add(const void* tensor, std::int64_t stride, const std::int32_t* positions,
           std::int64_t count) {
    if (streams_ == kMostStreams) return;
    stream_[streams_++] = {static_cast<const char*>(tensor), stride, positions, count};
    rows_per_step_ += (count + steps_ - 1) / steps_;
  }

  // Inlined, because GCC 12 removes calls of a function that only prefetches.
  REFORMER_INLINE void step() {
    for (std::int64_t i = 0; i < rows_per_step_ && current_ < streams_; ++i) {
      const Stream& stream = stream_[current_];
      const char* row = stream.tensor + stream.positions[row_] * stream.stride;
      for (std::int64_t byte = 0; byte < row_bytes_; byte += 64)
        __builtin_prefetch(row + byte, 0, 3);
      if (++row_ == stream.count) {
        row_ = 0;
        ++current_;
      }
    }
  }

 private:
  struct Stream {
    const char* tensor;
    std::int64_t stride;
    const std::int32_t* positions;
    std::int64_t count;
  };
  static constexpr int kMostStreams = 4;

  std::int64_t row_bytes_;
  Stream stream_[kMostStreams];
  std::int64_t steps_ = 1, rows_per_step_ = 0, row_ = 0;
  int streams_ = 0, current_ = 0;
};

}  // namespace reformer::REFORMER_ISA
