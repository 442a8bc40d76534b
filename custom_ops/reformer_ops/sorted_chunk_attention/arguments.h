// From shapes to SortedChunkAttentionArguments: what all bindings of SortedChunkAttention share.
#pragma once

#include "operands.h"
#include "sorted_chunk_attention/kernel.h"

namespace reformer {

// The axes of what `op`, the operator or one of its kin, takes first. Throws Error where the shapes
// do not fit each other.
inline Axes sorted_chunk_attention_axes(const char* op, const Shape& query_key, const Shape& value,
                                        const Shape& buckets, const Shape& mask) {
  Axes axes(op);
  axes.check("query_key", {"batch", "length", "heads", "head_dim"}, query_key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("buckets", {"batch", "heads", "num_hashes", "length"}, buckets);
  axes.check("mask", {"batch", "length"}, mask);
  return axes;
}

// Fills in the sizes. Throws Error likewise.
inline void set_sizes(SortedChunkAttentionArguments& arguments, const Shape& query_key,
                      const Shape& value, const Shape& buckets, const Shape& mask) {
  Axes axes =
      sorted_chunk_attention_axes("sorted_chunk_attention", query_key, value, buckets, mask);
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  arguments.num_hashes = axes["num_hashes"];
}

}  // namespace reformer
