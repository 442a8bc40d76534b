#include "lsh_bucket/kernel.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "isa.h"
#include "lsh_bucket/kernel_isa.h"

namespace reformer {
namespace {

using Block = void (*)(const HashBlocks&, std::size_t);

Block block_for(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return avx512::hash_block;
  if (isa == Isa::avx2) return avx2::hash_block;
#endif
  (void)isa;
  return baseline::hash_block;
}

std::int64_t packed_width(std::int64_t half) {
  return (half + kPackedColumns - 1) / kPackedColumns * kPackedColumns;
}

// One segment per round and factor, each padded to whole vectors.
std::vector<HashSegment> segments_of(const LshBucketArguments& a) {
  std::vector<HashSegment> segments;
  std::int64_t source = 0, start = 0;
  for (std::int64_t round = 0; round < a.num_hashes; ++round)
    for (std::size_t factor = 0; factor < a.num_factors; ++factor) {
      const std::int64_t half = a.factors[factor] / 2;
      segments.push_back({source, start, half});
      source += half;
      start += packed_width(half);
    }
  return segments;
}

}  // namespace

std::int64_t bucket_count(const std::int64_t* factors, std::size_t num_factors) {
  std::string given;
  for (std::size_t i = 0; i < num_factors; ++i)
    given += (i == 0 ? "" : ", ") + std::to_string(factors[i]);
  given = "; got [" + given + "]";
  std::int64_t count = 1;
  bool all_even = num_factors > 0, numbered = true;
  for (std::size_t i = 0; i < num_factors; ++i) {
    all_even &= factors[i] >= 2 && factors[i] % 2 == 0;
    numbered = numbered && !__builtin_mul_overflow(count, factors[i], &count) &&
               count <= std::numeric_limits<std::int32_t>::max();
  }
  if (!all_even) throw Error("lsh_bucket takes one or more factors, even and >= 2" + given);
  if (!numbered) throw Error("lsh_bucket takes factors whose product is below 2**31" + given);
  return count;
}

void lsh_bucket(const LshBucketArguments& a, const Parallel& parallel) {
  const std::int64_t num_buckets = bucket_count(a.factors, a.num_factors);
  std::int64_t source_columns = 0;
  for (std::size_t factor = 0; factor < a.num_factors; ++factor)
    source_columns += a.factors[factor] / 2;
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  if (lines == 0 || a.length == 0 || a.num_hashes == 0) return;

  const std::vector<HashSegment> segments = segments_of(a);
  HashBlocks blocks;
  blocks.arguments = &a;
  blocks.segments = segments.data();
  blocks.columns = segments.back().start + packed_width(segments.back().half);
  blocks.widest = 0;
  for (const HashSegment& segment : segments)
    blocks.widest = std::max(blocks.widest, packed_width(segment.half));
  blocks.padding_bucket = static_cast<std::int32_t>(num_buckets);

  const std::int64_t head_size =
      checked_product(blocks.columns, a.head_dim, "the size of the rotations");
  std::unique_ptr<float[]> packed(
      new float[checked_product(a.heads, head_size, "the size of the rotations")]);
  source_columns *= a.num_hashes;
  parallel_for(parallel, a.heads, [&](std::size_t head) {
    const float* from = a.rotations + head * a.head_dim * source_columns;
    float* to = packed.get() + head * head_size;
    for (const HashSegment& segment : segments) {
      const std::int64_t width = packed_width(segment.half);
      float* matrix = to + segment.start * a.head_dim;
      for (std::int64_t dim = 0; dim < a.head_dim; ++dim)
        for (std::int64_t column = 0; column < width; ++column)
          // Columns past the end repeat the first, which then wins over them.
          matrix[dim * width + column] =
              from[dim * source_columns + segment.source + (column < segment.half ? column : 0)];
    }
  });
  blocks.packed = packed.get();
  constexpr std::int64_t kWantedTasks = 64;
  blocks.positions_per_block = std::clamp<std::int64_t>(a.length * lines / kWantedTasks, 96, 1536);
  blocks.blocks_per_head = (a.length + blocks.positions_per_block - 1) / blocks.positions_per_block;
  const Block block = block_for(active_isa());
  parallel_for(parallel, lines * blocks.blocks_per_head,
               [&](std::size_t task) { block(blocks, task); });
}

}  // namespace reformer
