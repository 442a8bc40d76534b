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

std::int64_t packed_width(std::int64_t half) {
  return (half + kPackedColumns - 1) / kPackedColumns * kPackedColumns;
}

// All argmaxes of a token, and how their columns are laid out.
struct HashLayout {
  explicit HashLayout(const LshBucketArguments& a) {
    for (std::int64_t round = 0; round < a.num_hashes; ++round) {
      std::int64_t scale = 1;
      for (std::size_t factor = 0; factor < a.num_factors; ++factor) {
        if (groups.empty() || groups.back().width >= kGroupColumns)
          groups.push_back({0, 0, segments.size(), segments.size()});
        HashGroup& group = groups.back();
        const std::int64_t half = a.factors[factor] / 2;
        segments.push_back({columns, group.width, half, round, static_cast<std::int32_t>(scale)});
        group.width += packed_width(half);
        group.end_segment = segments.size();
        columns += half;
        scale *= a.factors[factor];
      }
    }
    std::int64_t packed_columns = 0;
    for (HashGroup& group : groups) {
      group.start = packed_columns * a.head_dim;
      packed_columns += group.width;
      widest = std::max(widest, group.width);
    }
    head_size = checked_product(packed_columns, a.head_dim, "the size of the rotations");
  }

  // Writes a head's rotations, [head_dim][columns], in this layout.
  void pack(const float* from, std::int64_t head_dim, float* to) const {
    for (const HashGroup& group : groups) {
      float* matrix = to + group.start;
      for (std::size_t i = group.first_segment; i < group.end_segment; ++i) {
        const HashSegment& segment = segments[i];
        for (std::int64_t dim = 0; dim < head_dim; ++dim)
          for (std::int64_t column = 0; column < packed_width(segment.half); ++column)
            // Columns past the end repeat the first, which then wins over them.
            matrix[dim * group.width + segment.column + column] =
                from[dim * columns + segment.source + (column < segment.half ? column : 0)];
      }
    }
  }

  std::vector<HashSegment> segments;
  std::vector<HashGroup> groups;
  std::int64_t columns = 0;  // as given
  std::int64_t head_size = 0, widest = 0;
};

}  // namespace

void lsh_bucket(const LshBucketArguments& a, const Parallel& parallel) {
  const std::int64_t num_buckets = bucket_count(a.factors, a.num_factors);
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  if (lines == 0 || a.length == 0 || a.num_hashes == 0) return;

  const HashLayout layout(a);
  HashBlocks blocks;
  blocks.arguments = &a;
  blocks.segments = layout.segments.data();
  blocks.groups = layout.groups.data();
  blocks.num_groups = layout.groups.size();
  blocks.head_size = layout.head_size;
  blocks.widest = layout.widest;
  blocks.padding_bucket = static_cast<std::int32_t>(num_buckets);

  std::unique_ptr<float[]> packed(
      new float[checked_product(a.heads, layout.head_size, "the size of the rotations")]);
  parallel_for(parallel, a.heads, [&](std::size_t head) {
    layout.pack(a.rotations + head * a.head_dim * layout.columns, a.head_dim,
                packed.get() + head * layout.head_size);
  });
  blocks.packed = packed.get();
  constexpr std::int64_t kWantedTasks = 64;
  blocks.positions_per_block = std::clamp<std::int64_t>(a.length * lines / kWantedTasks, 96, 1536);
  blocks.blocks_per_head = (a.length + blocks.positions_per_block - 1) / blocks.positions_per_block;
  const auto block = REFORMER_FOR_ISA(hash_block);
  parallel_for(parallel, lines * blocks.blocks_per_head,
               [&](std::size_t task) { block(blocks, task); });
}

}  // namespace reformer
