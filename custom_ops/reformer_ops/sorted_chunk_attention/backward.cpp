#include "sorted_chunk_attention/backward.h"

#include <memory>

#include "chunking.h"
#include "common.h"
#include "sorted_chunk_attention/sort.h"

namespace reformer {

void sorted_chunk_attention_backward(const AttentionBackwardArguments& arguments,
                                     const std::int32_t* buckets, std::int64_t num_buckets,
                                     const Parallel& parallel) {
  const char* op = "sorted_chunk_attention_backward";
  AttentionBackwardArguments a = arguments;
  check_at_least(op, "num_buckets", num_buckets, 1);
  const Chunking chunking =
      check_chunking(op, a.length, a.chunk_length, a.num_chunks_before, a.num_chunks_after);
  // A sequence of one chunk is attended to once, in the order it has.
  const bool sorted = a.length > a.chunk_length;
  if (!sorted) a.rounds = 1;
  std::unique_ptr<std::int32_t[]> order;
  if (sorted)
    order = sorted_positions(op, buckets, checked_product(a.batch, a.heads, "batch * heads"),
                             a.rounds, a.length, num_buckets, parallel);
  a.order = order.get();
  a.chunk_length = chunking.chunk_length;
  a.num_chunks_before = chunking.before;
  a.num_chunks_after = chunking.after;
  attention_backward(a, parallel);
}

}  // namespace reformer
