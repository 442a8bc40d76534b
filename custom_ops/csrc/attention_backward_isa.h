// Between the part of the backward kernel that is compiled once and the one compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention_backward.h"
#include "chunking.h"

namespace reformer {

// One round of hashing (or the sequence as it is), cut into blocks of neighbouring chunks of one
// head. A block adds to the gradients of its own positions, which no other block of the round has.
// What it finds for keys of other blocks goes to its halo, to be added when all blocks are done.
struct BackwardRound {
  const AttentionBackwardArguments* arguments;
  ChunkRing ring;  // the chunks of all rounds
  std::int64_t round;
  std::int64_t chunks_per_block, blocks_per_head;
  std::int64_t halo_chunks;  // how many foreign chunks a block may see
  std::int64_t* halo_ids;    // [tasks, halo_chunks] which these are; -1 for none
  float* halo_rows;          // [tasks, halo_chunks, 2, chunk_length, head_dim] of keys, of values

  std::int64_t chunks_per_round() const { return arguments->length / arguments->chunk_length; }
};

#define REFORMER_DECLARE(isa)                                                  \
  namespace isa {                                                              \
  void attention_backward_block(const BackwardRound& round, std::size_t task); \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
