#include "lsh_bucket/kernel.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "isa.h"
#include "matmul.h"
#include "scratch.h"
#include "storage.h"

namespace reformer {

// The columns of one factor in one round: one argmax.
struct HashSegment {
  std::int64_t source;  // first column in the given rotations
  std::int64_t column;  // first column within its group, a multiple of kPackedColumns
  std::int64_t half;    // number of columns: half the factor
  std::int64_t round;
  std::int32_t scale;  // multiplier of this hash in the bucket number
};

// Segments that are multiplied as one matrix, so that narrow segments fill a register tile, too.
struct HashGroup {
  std::int64_t start;                      // offset of its matrix in the rotations of a head
  std::int64_t width;                      // columns of that matrix, [head_dim][width]
  std::int64_t stride;                     // from one line of the matrix to the next
  std::size_t first_segment, end_segment;  // its segments
};

constexpr std::int64_t kPackedColumns = 16;  // the widest vector: one packing serves every ISA
constexpr std::int64_t kGroupColumns =
    64;  // the widest panel: a group with this many columns is complete

// Blocks of positions of one head, and the rotations.
struct HashBlocks {
  const LshBucketArguments* arguments;
  const float* rotations;       // [heads][head_size]: the matrices of all groups
  const HashSegment* segments;  // [num_hashes, num_factors]
  const HashGroup* groups;
  std::size_t num_groups;
  std::int64_t head_size;
  std::int64_t widest;  // width of the widest group
  std::int32_t padding_bucket;
  std::int64_t positions_per_block, blocks_per_head;
};

}  // namespace reformer

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

constexpr std::int64_t kRows = 48;  // hashed together: a multiple of register tiles and of vectors
static_assert(kRows % kTileRows == 0 && kRows % kLanes == 0);

// For kLanes rows of x R (`stride` apart): the index of the largest number of [x R, -x R]; if
// several are equal, the lowest index. With NaN, any index in range. The block is transposed, so a
// lane is a row.
REFORMER_INLINE Ints winners(const float* rotated, std::int64_t stride, std::int64_t half) {
  Floats most = {}, least = {};
  Ints highest = {}, lowest = {};
  for (std::int64_t column = 0; column < half; column += kLanes) {
    Floats block[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) block[i] = load(rotated + i * stride + column);
    transpose(block);
    if (column == 0) most = least = block[0];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      const Ints index = broadcast(static_cast<std::int32_t>(column) + i);
      highest = block[i] > most ? index : highest;
      most = maximum(block[i], most);
      lowest = block[i] < least ? index : lowest;
      least = minimum(block[i], least);
    }
  }
  return most >= -least ? highest : lowest + broadcast(static_cast<std::int32_t>(half));
}

// Writes the rows times the group's matrix to rotated[row][column].
void rotate(const HashGroup& group, const float* matrix, const float* const* rows,
            std::int64_t count, std::int64_t head_dim, float* rotated) {
  for (std::int64_t panel = 0; panel < group.width; panel += kPanel) {
    const std::int64_t vectors = std::min<std::int64_t>(kPanel, group.width - panel) / kLanes;
    for_row_tiles(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
      with_vectors(vectors, [&]<int Vectors>() REFORMER_LAMBDA {
        Floats tile[Rows][Vectors] = {};
        multiply<Rows, Vectors>(tile, rows + row, matrix + panel, group.stride, head_dim);
        for (int r = 0; r < Rows; ++r)
          for (int v = 0; v < Vectors; ++v)
            store(rotated + (row + r) * group.width + panel + v * kLanes, tile[r][v]);
      });
    });
  }
}

template <typename Stored>
void run(const HashBlocks& blocks, std::size_t task) {
  const LshBucketArguments& a = *blocks.arguments;
  const std::int64_t line = static_cast<std::int64_t>(task) / blocks.blocks_per_head;
  const std::int64_t block = static_cast<std::int64_t>(task) % blocks.blocks_per_head;
  const std::int64_t batch = line / a.heads, head = line % a.heads;
  const std::int64_t first = block * blocks.positions_per_block;
  const std::int64_t end = std::min(first + blocks.positions_per_block, a.length);
  const std::int64_t stride = a.heads * a.head_dim;
  const Stored* query =
      static_cast<const Stored*>(a.query) + batch * a.length * stride + head * a.head_dim;
  const std::uint8_t* mask = a.mask + batch * a.length;
  const float* rotations = blocks.rotations + head * blocks.head_size;

  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(Scratch::bytes_of<float>(kRows * blocks.widest) +
                Scratch::bytes_of<float>(kRows * a.head_dim) +
                Scratch::bytes_of<std::int32_t>(a.num_hashes * kRows));
  float* rotated = scratch.take<float>(kRows * blocks.widest);
  float* copies = scratch.take<float>(kRows * a.head_dim);
  std::int32_t* buckets = scratch.take<std::int32_t>(a.num_hashes * kRows);

  for (std::int64_t position = first; position < end; position += kRows) {
    const std::int64_t count = std::min(kRows, end - position);
    const float* rows[kRows];
    for (std::int64_t row = 0; row < count; ++row) {
      const Stored* from = query + (position + row) * stride;
      if constexpr (sizeof(Stored) == sizeof(float)) {
        rows[row] = from;
      } else {
        load_row(copies + row * a.head_dim, from, a.head_dim);
        rows[row] = copies + row * a.head_dim;
      }
    }
    std::fill(buckets, buckets + a.num_hashes * kRows, 0);
    for (std::size_t g = 0; g < blocks.num_groups; ++g) {
      const HashGroup& group = blocks.groups[g];
      rotate(group, rotations + group.start, rows, count, a.head_dim, rotated);
      for (std::size_t s = group.first_segment; s < group.end_segment; ++s) {
        const HashSegment& segment = blocks.segments[s];
        std::int32_t* bucket = buckets + segment.round * kRows;
        for (std::int64_t row = 0; row < count; row += kLanes) {
          const float* from = rotated + row * group.width + segment.column;
          const Ints hash = winners(from, group.width, segment.half);
          store(bucket + row, load(bucket + row) + hash * broadcast(segment.scale));
        }
      }
    }
    for (std::int64_t round = 0; round < a.num_hashes; ++round) {
      std::int32_t* to = a.buckets + (line * a.num_hashes + round) * a.length + position;
      for (std::int64_t row = 0; row < count; ++row)
        to[row] = mask[position + row] ? buckets[round * kRows + row] : blocks.padding_bucket;
    }
  }
}

}  // namespace

void hash_block(const HashBlocks& blocks, std::size_t task) {
  if (blocks.arguments->dtype == DType::f32)
    run<float>(blocks, task);
  else
    run<Half>(blocks, task);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(hash_block)
namespace {

std::int64_t packed_width(std::int64_t half) {
  return (half + kPackedColumns - 1) / kPackedColumns * kPackedColumns;
}

// The segments of a token, and the layout of their columns.
struct HashLayout {
  explicit HashLayout(const LshBucketArguments& a) {
    for (std::int64_t round = 0; round < a.num_hashes; ++round) {
      std::int64_t scale = 1;
      for (std::size_t factor = 0; factor < a.num_factors; ++factor) {
        if (groups.empty() || groups.back().width >= kGroupColumns)
          groups.push_back({0, 0, 0, segments.size(), segments.size()});
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
      group.stride = group.width;
      packed_columns += group.width;
      widest = std::max(widest, group.width);
    }
    head_size = checked_product(packed_columns, a.head_dim, "the size of the rotations");
    in_place = packed_columns == columns && a.batch * a.length <= kFewTokens;
    if (!in_place) return;
    for (HashGroup& group : groups) {
      group.start = segments[group.first_segment].source;
      group.stride = columns;
    }
  }

  // Writes a head's rotations, [head_dim][columns], in this layout.
  void pack(const float* from, std::int64_t head_dim, float* to) const {
    for (const HashGroup& group : groups) {
      float* matrix = to + group.start;
      for (std::size_t i = group.first_segment; i < group.end_segment; ++i) {
        const HashSegment& segment = segments[i];
        for (std::int64_t dim = 0; dim < head_dim; ++dim)
          for (std::int64_t column = 0; column < packed_width(segment.half); ++column)
            // Columns past the end repeat the first column, which wins because its index is lower.
            matrix[dim * group.width + segment.column + column] =
                from[dim * columns + segment.source + (column < segment.half ? column : 0)];
      }
    }
  }

  std::vector<HashSegment> segments;
  std::vector<HashGroup> groups;
  std::int64_t columns = 0;  // in the given rotations
  std::int64_t head_size = 0, widest = 0;
  // True if the kernels read the given rotations. A few tokens read each rotation about once, so a
  // copy costs more than it saves.
  bool in_place = false;

 private:
  static constexpr std::int64_t kFewTokens = 16;
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

  std::unique_ptr<float[]> packed;
  blocks.rotations = a.rotations;
  if (!layout.in_place) {
    packed.reset(
        new float[checked_product(a.heads, layout.head_size, "the size of the rotations")]);
    parallel_for(parallel, a.heads, [&](std::size_t head) {
      layout.pack(a.rotations + head * a.head_dim * layout.columns, a.head_dim,
                  packed.get() + head * layout.head_size);
    });
    blocks.rotations = packed.get();
  }
  constexpr std::int64_t kWantedTasks = 64;
  blocks.positions_per_block = std::clamp<std::int64_t>(a.length * lines / kWantedTasks, 96, 1536);
  blocks.blocks_per_head = (a.length + blocks.positions_per_block - 1) / blocks.positions_per_block;
  const auto block = active_hash_block();
  parallel_for(parallel, lines * blocks.blocks_per_head,
               [&](std::size_t task) { block(blocks, task); });
}

}  // namespace reformer
#endif
