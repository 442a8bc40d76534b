#include "sorted_chunk_attention/kernel.h"

#include <memory>

#include "chunking.h"
#include "isa.h"
#include "sorted_chunk_attention/kernel_isa.h"
#include "sorted_chunk_attention/sort.h"

namespace reformer {
void sorted_chunk_attention(const SortedChunkAttentionArguments& given, const Parallel& parallel) {
  SortedChunkAttentionArguments a = given;
  check_at_least("sorted_chunk_attention", "num_buckets", a.num_buckets, 1);
  const Chunking chunking = check_chunking("sorted_chunk_attention", a.length, a.chunk_length,
                                           a.num_chunks_before, a.num_chunks_after);
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  if (lines == 0 || a.length == 0 || a.head_dim == 0) return;
  // A sequence of one chunk is attended to once, in the order it has.
  const bool sorted = a.length > a.chunk_length;
  if (!sorted) a.num_hashes = 1;
  if (a.num_hashes < 1) throw Error("sorted_chunk_attention needs at least one round of hashing");

  const std::unique_ptr<std::int32_t[]> order =
      sorted_positions("sorted_chunk_attention", sorted ? a.buckets : nullptr, lines, a.num_hashes,
                       a.length, a.num_buckets, parallel);

  const std::int64_t queries = lines * a.length;
  std::unique_ptr<float[]> weights;
  if (a.num_hashes > 1) weights.reset(new float[2 * queries]);
  std::unique_ptr<float[]> accumulator;
  if (a.num_hashes > 1 && a.dtype == DType::f16)
    accumulator.reset(new float[checked_product(queries, a.head_dim, "the output")]);

  SortedRound round;
  round.arguments = &a;
  round.order = order.get();
  round.tops = weights.get();
  round.sums = weights.get() + queries;
  round.accumulator = accumulator.get();
  round.chunk_length = chunking.chunk_length;
  round.num_chunks_before = chunking.before;
  round.num_chunks_after = chunking.after;
  const std::int64_t chunks = a.length / chunking.chunk_length;
  round.chunks_per_block = chunks_per_block(chunks, lines);
  round.blocks_per_head = (chunks + round.chunks_per_block - 1) / round.chunks_per_block;
  const auto block = REFORMER_FOR_ISA(sorted_chunk_block);
  // One round after another: each adds to the output of those before.
  for (round.round = 0; round.round < a.num_hashes; ++round.round)
    parallel_for(parallel, lines * round.blocks_per_head,
                 [&](std::size_t task) { block(round, task); });
}

}  // namespace reformer
