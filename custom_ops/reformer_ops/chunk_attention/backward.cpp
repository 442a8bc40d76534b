#include "chunk_attention/backward.h"

#include "chunking.h"

namespace reformer {

void chunk_attention_backward(const AttentionBackwardArguments& arguments,
                              const Parallel& parallel) {
  AttentionBackwardArguments a = arguments;
  const Chunking chunking = check_chunking("chunk_attention_backward", a.length, a.chunk_length,
                                           a.num_chunks_before, a.num_chunks_after);
  a.chunk_length = chunking.chunk_length;
  a.num_chunks_before = chunking.before;
  a.num_chunks_after = chunking.after;
  attention_backward(a, parallel);
}

}  // namespace reformer
