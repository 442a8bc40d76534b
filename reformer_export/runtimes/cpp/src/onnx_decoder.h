// Runs the graphs for generation, decoder_model.onnx and decoder_with_past_model.onnx, in ONNX
// Runtime on the CPU.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "onnxruntime_opener.h"
#include "reformer/generator.h"
#include "sampling.h"

namespace reformer {

// The state of a decoder after the tokens of a batch of sequences, which may differ in length.
struct Cache {
  std::vector<Tensor> tensors;
  // The memory that a step writes. With our kernels it is that of `tensors`, changed in place.
  std::vector<Tensor> next;
  Tensor past_length;    // [batch] int64, the tokens in the cache
  Tensor prompt_length;  // [batch] int64, the tokens in the cache that belong to the prompt

  std::int64_t length(std::size_t row) const { return past_length.data<std::int64_t>()[row]; }
  // Turns the row into an empty sequence.
  void clear(std::size_t row);
};

class OnnxDecoder {
 public:
  // Adds notes for the user to `notes`. Throws Error (usage, unavailable, native, artifact).
  OnnxDecoder(const Artifact& artifact, const Options& options, std::vector<std::string>& notes);

  // Returns the scores after each prompt, and one cache for all, with room for `capacity` tokens.
  // Prompts of the same length run together, and different lengths run one after another, because
  // padding would change the results. The caller has checked the prompts. Throws Error (inference).
  std::pair<std::vector<Scores>, Cache> prefill(const std::vector<TokenIds>& prompts,
                                                std::int64_t capacity) const;

  // Adds a token to each sequence and returns the scores after it. The cache must have room for the
  // token. Throws Error (inference).
  std::vector<Scores> step(const TokenIds& tokens, Cache& cache) const;

  const std::string& description() const noexcept { return opener_.description(); }

 private:
  // The shape of a tensor of a cache for `capacity` tokens.
  Shape shape_of(const TensorSpec& spec, std::int64_t batch, std::int64_t capacity) const;
  std::vector<Tensor> empty_tensors(std::int64_t batch, std::int64_t capacity) const;

  const OnnxRuntimeOpener opener_;
  const std::int64_t vocab_size_;
  Ort::Session prefill_, step_;
  // The tensors of a cache ("key.3"). The first axis is the batch. Another dynamic axis is
  // "capacity" (tokens) or "blocks" (the blocks of an `order` tensor that `capacity` tokens need).
  std::vector<TensorSpec> layout_;
  std::int64_t block_length_ = 1;
  TensorSpec logits_;
  std::vector<std::string> inputs_;   // of step_
  std::vector<std::string> outputs_;  // of step_ and of prefill_
};

}  // namespace reformer
