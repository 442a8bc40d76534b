#include "lsh_bucket/kernel_isa.h"

#include <algorithm>

#include "matmul.h"
#include "scratch.h"
#include "storage.h"

namespace reformer::REFORMER_ISA {
namespace {

constexpr std::int64_t kRows = 4 * kTileRows;  // hashed at a time

// The first column that holds `wanted`; 0 where none does, which takes a NaN among them.
std::int64_t find(const float* columns, std::int64_t count, float wanted) {
  const Floats all = broadcast(wanted);
  for (std::int64_t column = 0; column < count; column += kLanes) {
    const Ints equal = load(columns + column) == all;
    std::int32_t lanes[kLanes], any = 0;
    __builtin_memcpy(lanes, &equal, sizeof lanes);
    for (int lane = 0; lane < kLanes; ++lane) any |= lanes[lane];
    if (any == 0) continue;
    for (int lane = 0; lane < kLanes; ++lane)
      if (lanes[lane] != 0) return column + lane;
  }
  return 0;
}

// The index of the largest of [x R, -x R]; among equals the lowest.
std::int64_t winner(const float* rotated, std::int64_t columns, std::int64_t half) {
  Floats high = load(rotated), low = high;
  for (std::int64_t column = kLanes; column < columns; column += kLanes) {
    const Floats x = load(rotated + column);
    high = maximum(high, x);
    low = minimum(low, x);
  }
  const float most = largest(high), least = smallest(low);
  return most >= -least ? find(rotated, columns, most) : half + find(rotated, columns, least);
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
  const float* rotations = blocks.packed + head * blocks.columns * a.head_dim;

  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(Scratch::bytes_of<float>(kRows * blocks.widest) +
                Scratch::bytes_of<float>(kRows * a.head_dim));
  float* rotated = scratch.take<float>(kRows * blocks.widest);
  float* copies = scratch.take<float>(kRows * a.head_dim);

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
    const HashSegment* segment = blocks.segments;
    for (std::int64_t round = 0; round < a.num_hashes; ++round) {
      std::int64_t bucket[kRows] = {};
      std::int64_t scale = 1;
      for (std::size_t factor = 0; factor < a.num_factors; ++factor, ++segment) {
        const std::int64_t width = round_up(segment->half, kPackedColumns);
        const float* matrix = rotations + segment->start * a.head_dim;
        for (std::int64_t panel = 0; panel < width; panel += kPanel) {
          const std::int64_t vectors = std::min<std::int64_t>(kPanel, width - panel) / kLanes;
          for_row_tiles(count, [&]<int Rows>(std::int64_t row) REFORMER_LAMBDA {
            with_vectors(vectors, [&]<int Vectors>() REFORMER_LAMBDA {
              Floats tile[Rows][Vectors] = {};
              multiply<Rows, Vectors>(tile, rows + row, matrix + panel, width, a.head_dim);
              for (int r = 0; r < Rows; ++r)
                for (int v = 0; v < Vectors; ++v)
                  store(rotated + (row + r) * width + panel + v * kLanes, tile[r][v]);
            });
          });
        }
        for (std::int64_t row = 0; row < count; ++row)
          bucket[row] += scale * winner(rotated + row * width, width, segment->half);
        scale *= a.factors[factor];
      }
      std::int32_t* to = a.buckets + (line * a.num_hashes + round) * a.length + position;
      for (std::int64_t row = 0; row < count; ++row)
        to[row] =
            mask[position + row] ? static_cast<std::int32_t>(bucket[row]) : blocks.padding_bucket;
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
