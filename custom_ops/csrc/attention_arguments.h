// The arguments of the CPU kernels of both attentions. docs/ops.md defines the results.
#pragma once

#include <cstdint>

#include "chunking.h"
#include "common.h"
#include "dropout.h"
#include "operands.h"

namespace reformer {

// Sizes and attributes, for an attention and for its gradients. num_hashes and num_buckets belong
// to SortedChunkAttention.
struct AttentionSizes {
  std::int64_t batch = 0, length = 0, heads = 0, head_dim = 0, num_hashes = 0;
  std::int64_t num_buckets = 1, chunk_length = 0, num_chunks_before = 0, num_chunks_after = 0;
  bool causal = false;
  Dropout dropout;  // of the probabilities, in training

  // Sets the sizes from the axes of the inputs.
  void set_axes(Axes& axes) {
    batch = axes["batch"];
    length = axes["length"];
    heads = axes["heads"];
    head_dim = axes["head_dim"];
    num_hashes = axes["num_hashes"];
  }
};

struct AttentionArguments : AttentionSizes {
  const void* query = nullptr;            // [batch, length, heads, head_dim] of dtype
  const void* key = nullptr;              // the same; with shared QK, it is `query`
  const void* value = nullptr;            // the same
  const std::int32_t* buckets = nullptr;  // [batch, heads, num_hashes, length], 0..num_buckets
  const std::uint8_t* mask = nullptr;     // [batch, length], 0 for padding
  void* output = nullptr;                 // [batch, length, heads, head_dim] of dtype
  float* lse = nullptr;  // [batch, heads, length] of each query's scores; null if not needed
  DType dtype = DType::f32;
};

// All floats are fp32. With shared QK, `key` is `query` and key_gradient is query_gradient.
struct AttentionBackwardArguments : AttentionSizes {
  const float* query = nullptr;           // [batch, length, heads, head_dim]
  const float* key = nullptr;             // the same
  const float* value = nullptr;           // the same
  const float* output = nullptr;          // the same; from the forward pass
  const float* gradient = nullptr;        // the same; the gradient of `output`
  const float* lse = nullptr;             // [batch, heads, length], from the forward pass
  const std::uint8_t* mask = nullptr;     // [batch, length], 0 for padding
  const std::int32_t* buckets = nullptr;  // [batch, heads, num_hashes, length]
  const std::int32_t* order = nullptr;    // [batch, heads, num_hashes, length] positions, in the
                                          // order of the chunks; null if they are not sorted
  float* query_gradient = nullptr;        // [batch, length, heads, head_dim]
  float* key_gradient = nullptr;          // the same
  float* value_gradient = nullptr;        // the same
  bool shared = false;                    // true for shared QK
};

// Replaces the attributes by those of the chunking that check_chunking returns. Throws its Errors.
inline void apply_chunking(const char* op, AttentionSizes& sizes) {
  const Chunking chunking = check_chunking(op, sizes.length, sizes.chunk_length,
                                           sizes.num_chunks_before, sizes.num_chunks_after);
  sizes.chunk_length = chunking.chunk_length;
  sizes.num_chunks_before = chunking.before;
  sizes.num_chunks_after = chunking.after;
}

}  // namespace reformer
