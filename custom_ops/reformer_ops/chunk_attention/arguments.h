// From shapes and attributes to ChunkAttentionArguments: what all bindings of ChunkAttention share.
#pragma once

#include "chunk_attention/kernel.h"
#include "operands.h"

namespace reformer {

// The axes of what `op`, the operator or one of its kin, takes first. Throws Error where the shapes
// do not fit each other.
inline Axes chunk_attention_axes(const char* op, const Shape& query, const Shape& key,
                                 const Shape& value, const Shape& mask) {
  Axes axes(op);
  axes.check("query", {"batch", "length", "heads", "head_dim"}, query);
  axes.check("key", {"batch", "length", "heads", "head_dim"}, key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("mask", {"batch", "length"}, mask);
  return axes;
}

// Fills in the sizes. Throws Error likewise.
inline void set_sizes(ChunkAttentionArguments& arguments, const Shape& query, const Shape& key,
                      const Shape& value, const Shape& mask) {
  Axes axes = chunk_attention_axes("chunk_attention", query, key, value, mask);
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
}

}  // namespace reformer
