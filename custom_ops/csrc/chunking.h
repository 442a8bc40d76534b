// How a sequence is split into chunks, for both attention operators.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "common.h"

namespace reformer {

struct Chunking {
  std::int64_t chunk_length, before, after;
};

inline void check_at_least(const char* op, const char* attribute, std::int64_t value,
                           std::int64_t minimum) {
  if (value < minimum)
    throw Error(std::string(op) + " takes " + attribute + " >= " + std::to_string(minimum) +
                "; got " + std::to_string(value));
}

// Throws Error if the window of chunks is invalid. The messages equal those of Python's checks.
inline void check_window(const char* op, std::int64_t chunk_length, std::int64_t before) {
  check_at_least(op, "chunk_length", chunk_length, 1);
  check_at_least(op, "num_chunks_before", before, 0);
}

// The chunking to use: a sequence that is not longer than a chunk is one chunk without neighbours.
// Throws Error if the length is neither at most chunk_length nor a multiple of it.
inline Chunking check_chunking(const char* op, std::int64_t length, std::int64_t chunk_length,
                               std::int64_t before, std::int64_t after) {
  check_window(op, chunk_length, before);
  check_at_least(op, "num_chunks_after", after, 0);
  if (length > std::numeric_limits<std::int32_t>::max())
    throw Error(std::string(op) + " takes at most 2147483647 positions; got " +
                std::to_string(length));
  if (length <= chunk_length) return {std::max<std::int64_t>(length, 1), 0, 0};
  if (length % chunk_length != 0)
    throw Error(std::string(op) +
                " takes a length of at most chunk_length or a multiple of it; got " + "length " +
                std::to_string(length) + " with chunk_length " + std::to_string(chunk_length));
  return {chunk_length, before, after};
}

// The chunks of a sequence, or of all its rounds of hashing, and which chunks each one sees. They
// form a ring.
struct ChunkRing {
  std::int64_t count, before, after;

  // A shift of the whole ring or more gives the chunk itself.
  std::int64_t neighbour(std::int64_t chunk, std::int64_t shift) const {
    if (shift <= -count || shift >= count) return chunk;
    return (chunk + shift + count) % count;
  }

  bool sees(std::int64_t chunk, std::int64_t other) const {
    for (std::int64_t shift = -before; shift <= after; ++shift)
      if (neighbour(chunk, shift) == other) return true;
    return false;
  }

  // The number of chunks that a chunk sees, including itself.
  std::int64_t width() const { return before + 1 + after; }
};

// The chunks of one head and one round, cut into blocks of neighbouring chunks. A block is a task.
// Blocks are long enough that loading the chunks before the first one costs little, and short
// enough that every thread has work. Their length does not depend on the number of threads.
struct ChunkBlocks {
  std::int64_t chunks_per_block = 0, blocks_per_head = 0;

  ChunkBlocks() = default;
  ChunkBlocks(std::int64_t chunks, std::int64_t heads) {
    constexpr std::int64_t kWantedTasks = 64;
    chunks_per_block = std::clamp<std::int64_t>(chunks * heads / kWantedTasks, 4, 32);
    blocks_per_head = (chunks + chunks_per_block - 1) / chunks_per_block;
  }
};

}  // namespace reformer
