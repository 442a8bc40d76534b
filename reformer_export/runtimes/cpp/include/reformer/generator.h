// Continues sequences of tokens, with an artifact that holds a decoder.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reformer/artifact.h"
#include "reformer/error.h"
#include "reformer/export.h"
#include "reformer/session.h"

namespace reformer {

class OnnxDecoder;

using TokenIds = std::vector<std::int64_t>;

// The settings for choosing tokens, applied in this order. Without temperature, top_k and top_p,
// the token with the highest score is chosen ("greedy").
struct REFORMER_EXPORT GenerationOptions {
  int max_new_tokens = 20;  // for each prompt
  // Divides the positive scores of tokens that the sequence contains; multiplies negative ones.
  double repetition_penalty = 1.0;
  std::optional<double> temperature;  // divides the scores; 0: greedy
  std::int64_t top_k = 0;             // keep the k highest scores; 0: all
  double top_p = 1.0;  // keep the smallest set of likeliest tokens with at least this probability
  // The seed of the random numbers. They are the same on every machine, but differ from Python's.
  std::uint64_t seed = 0;
  // The ids that end a sequence, instead of Generator::stop(). The result contains that id.
  std::optional<TokenIds> stop;

  // Throws Error (usage) for a value that is not allowed.
  void check() const;
};

// A sequence has reached the maximum length of the model.
class REFORMER_EXPORT GenerationLimitError : public Error {
 public:
  GenerationLimitError(const std::string& message, std::vector<TokenIds> tokens)
      : Error(ErrorKind::limit, message), tokens_(std::move(tokens)) {}

  // The tokens generated before, in the form that Generator::generate returns.
  const std::vector<TokenIds>& tokens() const noexcept { return tokens_; }

 private:
  std::vector<TokenIds> tokens_;
};

// Copies share the model. Any number of threads may call generate() at the same time.
class REFORMER_EXPORT Generator {
 public:
  // Receives the next token of each sequence; for a sequence that has ended, the pad token. Returns
  // false to stop.
  using OnTokens = std::function<bool(const TokenIds& tokens)>;

  // Runs on the CPU in ONNX Runtime. Throws Error: usage (the artifact holds no decoder, or an
  // option does not apply), native, unavailable.
  explicit Generator(const Artifact& artifact, const Options& options = {});

  // Returns the tokens that follow each prompt. All results have the same length: a sequence that
  // ends earlier is filled with the pad token. Prompts may have different lengths; each receives
  // the same tokens as in a batch of one. Calls `on_tokens` after every step, if it is not empty.
  // Throws Error (usage, input, inference) and GenerationLimitError.
  std::vector<TokenIds> generate(const std::vector<TokenIds>& prompts,
                                 const GenerationOptions& options = {},
                                 const OnTokens& on_tokens = {}) const;

  const Signature& signature() const noexcept { return signature_; }
  // The ids that end a sequence: eos_token_id of the artifact's generation_config.json, else of its
  // config.json.
  const TokenIds& stop() const noexcept { return stop_; }
  // The runtime, its version, threads and kernels.
  const std::string& description() const noexcept;
  // Notes for the user, such as the reason why a faster kernel was not chosen.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::shared_ptr<const OnnxDecoder> decoder_;
  Signature signature_;
  TokenIds stop_;
  std::int64_t pad_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace reformer
