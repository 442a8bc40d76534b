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

// How tokens are chosen. Without temperature, top_k and top_p, the token with the highest score is
// taken ("greedy"). The settings apply in this order.
struct REFORMER_EXPORT GenerationOptions {
  int max_new_tokens = 20;  // for each prompt
  // Divides the positive scores of tokens that the sequence has, and multiplies the negative ones.
  double repetition_penalty = 1.0;
  std::optional<double> temperature;  // divides the scores; 0: greedy
  std::int64_t top_k = 0;             // keep the k highest scores; 0: all
  double top_p = 1.0;  // keep the fewest tokens whose probabilities have at least this sum
  // Of the random numbers. They are the same on every machine, but not those of Python.
  std::uint64_t seed = 0;
  // The ids that end a sequence, instead of Generator::stop(). Such an id is part of the result.
  std::optional<TokenIds> stop;

  // Throws Error (usage) for a value that has no meaning.
  void check() const;
};

// A sequence has reached the longest that the model takes.
class REFORMER_EXPORT GenerationLimitError : public Error {
 public:
  GenerationLimitError(const std::string& message, std::vector<TokenIds> tokens)
      : Error(ErrorKind::limit, message), tokens_(std::move(tokens)) {}

  // What was generated until then, as Generator::generate returns it.
  const std::vector<TokenIds>& tokens() const noexcept { return tokens_; }

 private:
  std::vector<TokenIds> tokens_;
};

// Copies share the model. Any number of threads may call generate() at the same time.
class REFORMER_EXPORT Generator {
 public:
  // Takes the next token of each sequence: the pad token for a sequence that has ended. Returns
  // false to stop.
  using OnTokens = std::function<bool(const TokenIds& tokens)>;

  // Runs on the CPU in ONNX Runtime. Throws Error: usage (the artifact holds no decoder, or an
  // option does not fit), native, unavailable.
  explicit Generator(const Artifact& artifact, const Options& options = {});

  // Returns the tokens that follow each prompt. All results have one length: a sequence that ended
  // earlier is filled with the pad token. Prompts may have different lengths; each gets the tokens
  // that it would get alone. Calls `on_tokens` after every step, if it is not empty. Throws Error
  // (usage, input, inference) and GenerationLimitError.
  std::vector<TokenIds> generate(const std::vector<TokenIds>& prompts,
                                 const GenerationOptions& options = {},
                                 const OnTokens& on_tokens = {}) const;

  const Signature& signature() const noexcept { return signature_; }
  // The ids that end a sequence: eos_token_id of the artifact's generation_config.json, else of its
  // config.json.
  const TokenIds& stop() const noexcept { return stop_; }
  // The runtime, its version, threads and kernels.
  const std::string& description() const noexcept;
  // Notes for the user: why a faster kernel was not chosen.
  const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  std::shared_ptr<const OnnxDecoder> decoder_;
  Signature signature_;
  TokenIds stop_;
  std::int64_t pad_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace reformer
