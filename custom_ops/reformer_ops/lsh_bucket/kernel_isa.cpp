#include "lsh_bucket/kernel_isa.h"

#include <algorithm>

#include "matmul.h"
#include "scratch.h"
#include "storage.h"

namespace reformer::REFORMER_ISA {
namespace {

constexpr std::int64_t kRows = 48;  // hashed at a time: whole register tiles and whole vectors
static_assert(kRows % kTileRows == 0 && kRows % kLanes == 0);

// For kLanes rows of x R (`stride` apart) the index of the largest of [x R, -x R], among equals the
// lowest; anything in range where there is a NaN. A lane is a row, after a transpose.
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

// rotated[row][column] = rows times the group's matrix.
void rotate(const HashGroup& group, const float* matrix, const float* const* rows,
            std::int64_t count, std::int64_t head_dim, float* rotated) {
  for (std::int64_t panel = 0; panel < group.width; panel += kPanel) {
    const std::int64_t vectors = std::min<std::int64_t>(kPanel, group.width - panel) / kLanes;
    for_row_tiles(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
      with_vectors(vectors, [&]<int Vectors>() REFORMER_LAMBDA {
        Floats tile[Rows][Vectors] = {};
        multiply<Rows, Vectors>(tile, rows + row, matrix + panel, group.width, head_dim);
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
  const float* rotations = blocks.packed + head * blocks.head_size;

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
