#include "chunk_attention/kernel.h"

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "attention.h"
#include "attention_backward.h"
#include "chunking.h"
#include "isa.h"

namespace reformer {

// The sequence, cut into blocks.
struct ChunkedSequence : ChunkBlocks {
  const AttentionArguments* arguments;
};

}  // namespace reformer

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// The chunks of one task, kept while later chunks see them.
template <typename Stored>
class LoadedChunks {
 public:
  LoadedChunks(const ChunkedSequence& blocks, const ChunkShape& shape, std::int64_t width)
      : arguments_(*blocks.arguments), shape_(shape), width_(width) {}

  std::size_t bytes() const {
    return width_ * shape_.bytes() + Scratch::bytes_of<KeyChunk>(width_) +
           Scratch::bytes_of<float>(shape_.keys * shape_.padded_dim()) +
           Scratch::bytes_of<const float*>(shape_.keys);
  }

  void take(Scratch& scratch, std::int64_t batch, std::int64_t head) {
    chunks_ = scratch.take<KeyChunk>(width_);
    copies_ = scratch.take<float>(shape_.keys * shape_.padded_dim());
    rows_ = scratch.take<const float*>(shape_.keys);
    for (std::int64_t i = 0; i < width_; ++i) chunks_[i] = shape_.take(scratch);
    stride_ = arguments_.heads * arguments_.head_dim;
    const std::int64_t start = batch * arguments_.length * stride_ + head * arguments_.head_dim;
    query_ = static_cast<const Stored*>(arguments_.query) + start;
    key_ = static_cast<const Stored*>(arguments_.key) + start;
    value_ = static_cast<const Stored*>(arguments_.value) + start;
    mask_ = arguments_.mask + batch * arguments_.length;
  }

  // The keys and values of chunk `id`. A chunk is not replaced while `needed` returns true for it.
  template <typename Needed>
  const KeyChunk& get(std::int64_t id, Needed&& needed) {
    KeyChunk* free_chunk = nullptr;
    for (std::int64_t i = 0; i < width_; ++i) {
      if (chunks_[i].id == id) return chunks_[i];
      if (chunks_[i].id < 0 || !needed(chunks_[i].id)) free_chunk = &chunks_[i];
    }
    load_chunk(*free_chunk, id);
    return *free_chunk;
  }

  // Prefetches the rows of chunks that are needed soon, at these positions.
  void announce(const std::int32_t* keys, const std::int32_t* queries,
                RowPrefetch& prefetch) const {
    const std::int64_t stride = stride_ * sizeof(Stored);
    prefetch.add(key_, stride, keys, shape_.keys);
    prefetch.add(value_, stride, keys, shape_.keys);
    prefetch.add(query_, stride, queries, shape_.keys);
  }

  // The queries of chunk `id` as rows of fp32, valid until the next call of any method.
  const float* const* queries(std::int64_t id) { return rows_of(query_, id); }

 private:
  void load_chunk(KeyChunk& chunk, std::int64_t id) {
    chunk.id = id;
    chunk.all_valid = true;
    pack_keys(shape_, rows_of(key_, id), chunk, nullptr);
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    for (std::int64_t key = 0; key < shape_.keys; ++key) {
      const std::int64_t position = id * shape_.keys + key;
      pack_value(shape_, value_ + position * stride_, key, chunk);
      chunk.scale[key] = scale;
      chunk.position[key] = static_cast<std::int32_t>(position);
      chunk.reach[key] = mask_[position] ? static_cast<std::int32_t>(position) : kNever;
      chunk.all_valid = chunk.all_valid && mask_[position];
    }
  }

  // Rows of fp32 tensors are used in place, unless vectors would read past their end.
  const float* const* rows_of(const Stored* tensor, std::int64_t id) {
    for (std::int64_t i = 0; i < shape_.keys; ++i) {
      const Stored* row = tensor + (id * shape_.keys + i) * stride_;
      if constexpr (sizeof(Stored) == sizeof(float)) {
        rows_[i] = row;
        if (shape_.head_dim % kLanes == 0) continue;
      }
      float* copy = copies_ + i * shape_.padded_dim();
      load_row(copy, row, shape_.head_dim);
      for (std::int64_t d = shape_.head_dim; d < shape_.padded_dim(); ++d) copy[d] = 0.0f;
      rows_[i] = copy;
    }
    return rows_;
  }

  const AttentionArguments& arguments_;
  ChunkShape shape_;
  std::int64_t width_, stride_ = 0;
  KeyChunk* chunks_ = nullptr;
  float* copies_ = nullptr;
  const float** rows_ = nullptr;
  const Stored *query_ = nullptr, *key_ = nullptr, *value_ = nullptr;
  const std::uint8_t* mask_ = nullptr;
};

// `lse_of_row` may be null.
template <typename Stored>
void write_results(Attention& attention, Stored* output, std::int64_t stride, std::int64_t head_dim,
                   float* lse_of_row, std::int64_t count) {
  for (std::int64_t row = 0; row < count; row += kLanes) {
    const Floats top = load(attention.tops() + row);
    // The logsumexp is fp32: if the top is -1e9, adding the logarithm does not change it.
    const Floats lse = top + log_from_one(load(attention.sums() + row));
    store(attention.sums() + row, exp_of_negative(top - lse));
    if (lse_of_row == nullptr) continue;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(kLanes, count - row); ++i)
      lse_of_row[row + i] = lse[i];
  }
  for (std::int64_t row = 0; row < count; ++row)
    store_row(output + row * stride, attention.result(row), attention.sums()[row], head_dim);
}

template <typename Stored>
void run(const ChunkedSequence& blocks, std::size_t task) {
  const AttentionArguments& a = *blocks.arguments;
  const std::int64_t line = static_cast<std::int64_t>(task) / blocks.blocks_per_head;
  const std::int64_t block = static_cast<std::int64_t>(task) % blocks.blocks_per_head;
  const std::int64_t batch = line / a.heads, head = line % a.heads;
  const ChunkRing ring{a.length / a.chunk_length, a.num_chunks_before, a.num_chunks_after};
  const std::int64_t width = ring.width();
  const std::int64_t first = block * blocks.chunks_per_block;
  const std::int64_t end = std::min(first + blocks.chunks_per_block, ring.count);

  const ChunkShape shape{a.chunk_length, a.head_dim};
  LoadedChunks<Stored> chunks(blocks, shape, width);
  const std::int64_t rows = Attention::rows_for(shape, width);
  Scratch& scratch = Scratch::of_this_thread();
  scratch.reset(chunks.bytes() + Attention::bytes(shape, width) +
                Scratch::bytes_of<KeySpan>(width) +
                3 * Scratch::bytes_of<std::int32_t>(shape.keys));
  chunks.take(scratch, batch, head);
  RowPrefetch prefetch(a.head_dim * sizeof(Stored));
  Attention attention(shape, width, a.dropout.from_row(line * a.length), scratch, prefetch);
  KeySpan* spans = scratch.take<KeySpan>(width);
  std::int32_t* positions = scratch.take<std::int32_t>(shape.keys);
  std::int32_t* next_queries = scratch.take<std::int32_t>(shape.keys);
  std::int32_t* next_keys = scratch.take<std::int32_t>(shape.keys);
  const auto list_positions = [&](std::int64_t chunk, std::int32_t* list) {
    for (std::int64_t i = 0; i < shape.keys; ++i)
      list[i] = static_cast<std::int32_t>(chunk * shape.keys + i);
  };
  const std::int64_t stride = a.heads * a.head_dim;
  Stored* output = static_cast<Stored*>(a.output) + batch * a.length * stride + head * a.head_dim;
  float* lse = a.lse == nullptr ? nullptr : a.lse + line * a.length;

  for (std::int64_t chunk = first; chunk < end; ++chunk) {
    const auto needed = [&](std::int64_t id) { return ring.sees(chunk, id); };
    // A causal query that sees itself gives later keys a weight of exactly 0, so they are skipped.
    const bool skip = a.causal && chunks.get(chunk, needed).all_valid;
    std::int64_t num_spans = 0;
    for (std::int64_t shift = -ring.before; shift <= ring.after; ++shift) {
      const std::int64_t id = ring.neighbour(chunk, shift);
      if (skip && id > chunk) continue;
      spans[num_spans++] = {&chunks.get(id, needed), skip && id == chunk};
    }
    list_positions(chunk, positions);
    prefetch.restart(Attention::tiles(shape, num_spans));
    prefetch.add(output, stride * sizeof(Stored), positions, shape.keys);
    if (chunk + 1 < end) {
      list_positions(chunk + 1, next_queries);
      list_positions(ring.neighbour(chunk + 1, ring.after), next_keys);
      chunks.announce(next_keys, next_queries, prefetch);
    }
    const float* const* queries = chunks.queries(chunk);
    for (std::int64_t row = 0; row < shape.keys; row += rows) {
      const std::int64_t count = std::min(rows, shape.keys - row);
      attention.attend<false>({queries + row, positions + row, row, count}, spans, num_spans,
                              a.causal);
      const std::int64_t position = chunk * shape.keys + row;
      write_results(attention, output + position * stride, stride, a.head_dim,
                    lse == nullptr ? nullptr : lse + position, count);
    }
  }
}

}  // namespace

void chunk_attention_block(const ChunkedSequence& blocks, std::size_t task) {
  if (blocks.arguments->dtype == DType::f32)
    run<float>(blocks, task);
  else
    run<Half>(blocks, task);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(chunk_attention_block)

void chunk_attention(const AttentionArguments& given, const Parallel& parallel) {
  AttentionArguments a = given;
  apply_chunking("chunk_attention", a);
  const std::int64_t lines = checked_product(a.batch, a.heads, "batch * heads");
  if (lines == 0 || a.length == 0 || a.head_dim == 0) return;

  const ChunkedSequence blocks{{a.length / a.chunk_length, lines}, &a};
  const auto block = active_chunk_attention_block();
  parallel_for(parallel, lines * blocks.blocks_per_head,
               [&](std::size_t task) { block(blocks, task); });
}

void chunk_attention_backward(const AttentionBackwardArguments& given, const Parallel& parallel) {
  AttentionBackwardArguments a = given;
  apply_chunking("chunk_attention_backward", a);
  a.num_hashes = 1;
  a.order = nullptr;
  attention_backward(a, parallel);
}

}  // namespace reformer
#endif
