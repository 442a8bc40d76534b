// From shapes to SortedChunkAttentionArguments: what all bindings of SortedChunkAttention share.
#pragma once

#include "attention_backward.h"
#include "operands.h"
#include "sorted_chunk_attention/kernel.h"

namespace reformer {

// Fills in the sizes. Throws Error where the shapes do not fit each other.
inline void set_sizes(SortedChunkAttentionArguments& arguments, const Shape& query_key,
                      const Shape& value, const Shape& buckets, const Shape& mask) {
  Axes axes("sorted_chunk_attention");
  axes.check("query_key", {"batch", "length", "heads", "head_dim"}, query_key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("buckets", {"batch", "heads", "num_hashes", "length"}, buckets);
  axes.check("mask", {"batch", "length"}, mask);
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  arguments.num_hashes = axes["num_hashes"];
}

// Arguments of its gradients with the sizes filled in. Throws Error likewise.
inline AttentionBackwardArguments sorted_chunk_attention_backward_arguments(
    const Shape& query_key, const Shape& value, const Shape& buckets, const Shape& mask,
    const Shape& output, const Shape& lse, const Shape& gradient) {
  Axes axes("sorted_chunk_attention_backward");
  axes.check("query_key", {"batch", "length", "heads", "head_dim"}, query_key);
  axes.check("value", {"batch", "length", "heads", "head_dim"}, value);
  axes.check("buckets", {"batch", "heads", "num_hashes", "length"}, buckets);
  axes.check("mask", {"batch", "length"}, mask);
  axes.check("output", {"batch", "length", "heads", "head_dim"}, output);
  axes.check("lse", {"batch", "heads", "length"}, lse);
  axes.check("gradient", {"batch", "length", "heads", "head_dim"}, gradient);
  AttentionBackwardArguments arguments{};
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  arguments.rounds = axes["num_hashes"];
  return arguments;
}

}  // namespace reformer
