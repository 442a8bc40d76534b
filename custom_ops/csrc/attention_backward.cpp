#include "attention_backward.h"

#include <algorithm>
#include <memory>

#include "attention_backward_isa.h"
#include "common.h"
#include "isa.h"

namespace reformer {
namespace {

// Adds what the blocks of one head found for keys of each other, always in the same order.
void add_halos(const BackwardRound& round, std::int64_t line) {
  const AttentionBackwardArguments& a = *round.arguments;
  const std::int64_t stride = a.heads * a.head_dim, rows = a.chunk_length * a.head_dim;
  const std::int64_t start = line / a.heads * a.length * stride + line % a.heads * a.head_dim;
  const std::int32_t* order = a.order == nullptr ? nullptr : a.order + line * a.rounds * a.length;
  const auto add = [&](float* gradient, std::int64_t slot, const float* row) {
    const std::int64_t position = order == nullptr ? slot : order[slot];
    float* to = gradient + start + position * stride;
    for (std::int64_t dim = 0; dim < a.head_dim; ++dim) to[dim] += row[dim];
  };
  const std::int64_t first = line * round.blocks_per_head * round.halo_chunks;
  for (std::int64_t i = first; i < first + round.blocks_per_head * round.halo_chunks; ++i) {
    if (round.halo_ids[i] < 0) continue;
    const float* keys = round.halo_rows + 2 * i * rows;
    for (std::int64_t key = 0; key < a.chunk_length; ++key) {
      const std::int64_t slot = round.halo_ids[i] * a.chunk_length + key;
      add(a.key_gradient, slot, keys + key * a.head_dim);
      add(a.value_gradient, slot, keys + rows + key * a.head_dim);
    }
  }
}

}  // namespace

void attention_backward(const AttentionBackwardArguments& a, const Parallel& parallel) {
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  const std::int64_t numbers =
      checked_product(checked_product(lines, a.length, "the input"), a.head_dim, "the input");
  for (float* gradient : {a.query_gradient, a.key_gradient, a.value_gradient})
    std::fill_n(gradient, numbers, 0.0f);

  BackwardRound round;
  round.arguments = &a;
  const std::int64_t chunks = a.length / a.chunk_length;
  round.ring = {chunks * a.rounds, a.num_chunks_before, a.num_chunks_after};
  round.chunks_per_block = chunks_per_block(chunks, lines);
  round.blocks_per_head = (chunks + round.chunks_per_block - 1) / round.chunks_per_block;
  const std::int64_t tasks = lines * round.blocks_per_head;
  // A block that is the whole ring sees no other.
  const bool alone = round.blocks_per_head * a.rounds == 1;
  round.halo_chunks = alone ? 0 : std::min(round.ring.width(), round.ring.count) - 1;
  const std::int64_t halos = tasks * round.halo_chunks;
  std::unique_ptr<std::int64_t[]> ids(new std::int64_t[halos]);
  std::unique_ptr<float[]> rows(new float[halos * 2 * a.chunk_length * a.head_dim]);
  round.halo_ids = ids.get();
  round.halo_rows = rows.get();

  const auto block = REFORMER_FOR_ISA(attention_backward_block);
  // One round after another: a position is in one block of each.
  for (round.round = 0; round.round < a.rounds; ++round.round) {
    parallel_for(parallel, tasks, [&](std::size_t task) { block(round, task); });
    if (halos > 0) parallel_for(parallel, lines, [&](std::size_t line) { add_halos(round, line); });
  }
}

}  // namespace reformer
