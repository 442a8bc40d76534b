// From shapes and attributes to ChunkAttentionArguments: what all bindings of ChunkAttention share.
#pragma once

#include "attention_backward.h"
#include "chunk_attention/kernel.h"
#include "operands.h"

namespace reformer {

// Fills in the sizes. Throws Error where the shapes do not fit each other.
inline void set_sizes(ChunkAttentionArguments& arguments, const Shape& query, const Shape& key,
                      const Shape& value, const Shape& mask) {
  Axes axes("chunk_attention");
  axes.check("query", {"batch", "length", "heads", "head_dim"}, query);
  axes.check("key", {"batch", "length", "heads", "head_dim"}, key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("mask", {"batch", "length"}, mask);
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
}

// Arguments of its gradients with the sizes filled in. Throws Error likewise.
inline AttentionBackwardArguments chunk_attention_backward_arguments(
    const Shape& query, const Shape& key, const Shape& value, const Shape& mask,
    const Shape& output, const Shape& lse, const Shape& gradient) {
  Axes axes("chunk_attention_backward");
  axes.check("query", {"batch", "length", "heads", "head_dim"}, query);
  axes.check("key", {"batch", "length", "heads", "head_dim"}, key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("mask", {"batch", "length"}, mask);
  axes.check("output", {"batch", "length", "heads", "head_dim"}, output);
  axes.check("lse", {"batch", "heads", "length"}, lse);
  axes.check("gradient", {"batch", "length", "heads", "head_dim"}, gradient);
  AttentionBackwardArguments arguments{};
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  arguments.rounds = 1;
  return arguments;
}

}  // namespace reformer
