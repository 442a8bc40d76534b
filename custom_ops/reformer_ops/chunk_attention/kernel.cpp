#include "chunk_attention/kernel.h"

#include "chunk_attention/kernel_isa.h"
#include "chunking.h"
#include "isa.h"

namespace reformer {
void chunk_attention(const ChunkAttentionArguments& arguments, const Parallel& parallel) {
  const Chunking chunking =
      check_chunking("chunk_attention", arguments.length, arguments.chunk_length,
                     arguments.num_chunks_before, arguments.num_chunks_after);
  const std::int64_t lines = checked_product(arguments.batch, arguments.heads, "batch * heads");
  if (lines == 0 || arguments.length == 0 || arguments.head_dim == 0) return;

  ChunkBlocks blocks;
  blocks.arguments = &arguments;
  blocks.chunk_length = chunking.chunk_length;
  blocks.num_chunks_before = chunking.before;
  blocks.num_chunks_after = chunking.after;
  const std::int64_t chunks = arguments.length / chunking.chunk_length;
  blocks.chunks_per_block = chunks_per_block(chunks, lines);
  blocks.blocks_per_head = (chunks + blocks.chunks_per_block - 1) / blocks.chunks_per_block;
  const auto block = REFORMER_FOR_ISA(chunk_attention_block);
  parallel_for(parallel, lines * blocks.blocks_per_head,
               [&](std::size_t task) { block(blocks, task); });
}

}  // namespace reformer
