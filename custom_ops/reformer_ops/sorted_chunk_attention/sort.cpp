#include "sorted_chunk_attention/sort.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "common.h"

namespace reformer {
namespace {

// Writes the positions of one round, stably sorted by bucket. Returns false if a bucket is out of
// range.
bool sort_round(const std::int32_t* buckets, std::int64_t length, std::int64_t num_buckets,
                std::int32_t* order) {
  std::int32_t lowest = std::numeric_limits<std::int32_t>::max(), highest = -1;
  for (std::int64_t i = 0; i < length; ++i) {
    lowest = std::min(lowest, buckets[i]);
    highest = std::max(highest, buckets[i]);
  }
  if (lowest < 0 || highest > num_buckets) return false;
  if (num_buckets > 8 * length + 4096) {  // a counting sort would use far more memory than the data
    std::iota(order, order + length, 0);
    std::stable_sort(order, order + length,
                     [&](std::int32_t a, std::int32_t b) { return buckets[a] < buckets[b]; });
    return true;
  }
  static thread_local std::vector<std::int32_t> starts;
  starts.assign(highest - lowest + 2, 0);
  for (std::int64_t i = 0; i < length; ++i) ++starts[buckets[i] - lowest + 1];
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  for (std::int64_t i = 0; i < length; ++i)
    order[starts[buckets[i] - lowest]++] = static_cast<std::int32_t>(i);
  return true;
}

}  // namespace

std::unique_ptr<std::int32_t[]> sorted_positions(const char* op, const std::int32_t* buckets,
                                                 std::int64_t lines, std::int64_t rounds,
                                                 std::int64_t length, std::int64_t num_buckets,
                                                 const Parallel& parallel) {
  const std::int64_t sorts = checked_product(lines, rounds, "batch * heads * num_hashes");
  const std::int64_t slots = checked_product(sorts, length, "the number of hashes");
  std::unique_ptr<std::int32_t[]> order(new std::int32_t[slots]);
  std::atomic<bool> in_range{true};
  parallel_for(parallel, sorts, [&](std::size_t sort) {
    std::int32_t* to = order.get() + sort * length;
    if (buckets == nullptr)
      std::iota(to, to + length, 0);
    else if (!sort_round(buckets + sort * length, length, num_buckets, to))
      in_range = false;
  });
  if (!in_range)
    throw Error(std::string(op) + " takes buckets of 0 to num_buckets = " +
                std::to_string(num_buckets) + "; found others");
  return order;
}

}  // namespace reformer
