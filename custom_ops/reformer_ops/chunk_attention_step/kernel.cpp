#include "chunk_attention_step/kernel.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "isa.h"
#include "row_attention.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
void run(const ChunkStepArguments& a, std::size_t task) {
  const std::int64_t line = static_cast<std::int64_t>(task);
  const std::int64_t batch = line / a.heads, head = line % a.heads;
  const HeadCache<Stored> cache{a.window, a.heads * a.head_dim, a.head_dim};
  const std::int64_t start = batch * a.window * cache.stride + head * a.head_dim;
  const std::int64_t position = a.past_length[batch], place = position % a.window;
  const std::int64_t row = line * a.head_dim;
  const Stored* keys = cache.append(a.present_key, a.past_key, start,
                                    static_cast<const Stored*>(a.key) + row, place);
  const Stored* values = cache.append(a.present_value, a.past_value, start,
                                      static_cast<const Stored*>(a.value) + row, place);

  RowAttention<Stored> attention(a.window, a.head_dim);
  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(attention.bytes() + Scratch::bytes_of<float>(a.head_dim));
  attention.take(scratch);
  float* mixed = scratch.take<float>(a.head_dim);
  attention.set_query(static_cast<const Stored*>(a.query) + row);
  const std::int64_t chunk = position / a.chunk_length - a.num_chunks_before;
  for (std::int64_t p = std::max<std::int64_t>(0, chunk * a.chunk_length); p <= position; ++p) {
    const std::int64_t seen = p % a.window * cache.stride;
    attention.add(keys + seen, values + seen);
  }
  attention.template score<false>();
  attention.mix(mixed);
  store_row(static_cast<Stored*>(a.output) + row, mixed, 1.0f, a.head_dim);
}

}  // namespace

void chunk_attention_step_head(const ChunkStepArguments& arguments, std::size_t task) {
  if (arguments.dtype == DType::f32)
    run<float>(arguments, task);
  else
    run<Half>(arguments, task);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(chunk_attention_step_head)

void chunk_attention_step(const ChunkStepArguments& a, const Parallel& parallel) {
  const std::int64_t chunks =
      checked_product(a.num_chunks_before + 1, a.chunk_length, "chunk_attention_step's window");
  if (a.window != chunks)
    throw Error("chunk_attention_step takes a cache of " + std::to_string(chunks) + " tokens, " +
                std::to_string(a.num_chunks_before + 1) + " chunks of " +
                std::to_string(a.chunk_length) + "; got " + std::to_string(a.window));
  for (std::int64_t row = 0; row < a.batch; ++row)
    if (a.past_length[row] < 0)
      throw Error("chunk_attention_step takes a past_length of 0 or more; got " +
                  std::to_string(a.past_length[row]));
  const auto head = active_chunk_attention_step_head();
  parallel_for(parallel, a.batch * a.heads, [&](std::size_t task) { head(a, task); });
}

}  // namespace reformer
#endif
