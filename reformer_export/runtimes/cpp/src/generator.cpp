#include "reformer/generator.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "backend.h"
#include "manifest.h"
#include "messages.h"
#include "onnx_decoder.h"

namespace reformer {
namespace {

void check_options(const Options& options) {
  check_threads(options.threads);
  if (options.runtime != "auto" && options.runtime != "onnxruntime")
    fail(ErrorKind::usage, "unknown runtime ", in_quotes(options.runtime),
         " for generation: choose auto or onnxruntime");
  if (gpu_number(options.device))
    fail(ErrorKind::usage, "generation does not run on ", options.device, ": choose cpu");
  if (!options.engine.empty())
    fail(ErrorKind::usage, "--engine ", options.engine.string(),
         ": an engine does not generate; leave it out");
}

// The ids in a field of a configuration, which holds one id or a list.
TokenIds ids_in(const nlohmann::json& document, const char* key) {
  const auto found = document.is_object() ? document.find(key) : document.end();
  TokenIds ids;
  if (found == document.end()) return ids;
  for (const auto& id : found->is_array() ? *found : nlohmann::json::array({*found}))
    if (id.is_number_integer()) ids.push_back(id.get<std::int64_t>());
  return ids;
}

void check_prompts(const Signature& signature, const std::vector<TokenIds>& prompts) {
  if (prompts.empty())
    fail(ErrorKind::input, "there is no prompt: give at least one, of at least one token");
  for (const TokenIds& prompt : prompts) {
    const auto length = static_cast<std::int64_t>(prompt.size());
    signature.check({{"input_ids", Tensor::of({1, length}, prompt)}});
  }
}

}  // namespace

Generator::Generator(const Artifact& artifact, const Options& options)
    : signature_(artifact.signature()) {
  check_options(options);
  decoder_ = std::make_shared<const OnnxDecoder>(artifact, options, notes_);
  for (const char* name : {"config.json", "generation_config.json"}) {
    const auto path = artifact.file(name);
    if (path.empty()) continue;
    nlohmann::json document;
    try {
      document = read_document(path);
    } catch (const Error&) {
      continue;  // generation works without this file
    }
    if (TokenIds ids = ids_in(document, "eos_token_id"); !ids.empty()) stop_ = std::move(ids);
    if (const TokenIds ids = ids_in(document, "pad_token_id"); !ids.empty()) pad_ = ids.front();
  }
}

const std::string& Generator::description() const noexcept { return decoder_->description(); }

std::vector<TokenIds> Generator::generate(const std::vector<TokenIds>& prompts,
                                          const GenerationOptions& options,
                                          const OnTokens& on_tokens) const {
  options.check();
  check_prompts(signature_, prompts);
  const TokenIds& stop = options.stop ? *options.stop : stop_;
  const std::size_t batch = prompts.size();
  std::vector<Sampler> samplers;
  std::size_t longest = 0;
  for (std::size_t row = 0; row < batch; ++row) {
    samplers.emplace_back(options, prompts[row], row);
    longest = std::max(longest, prompts[row].size());
  }
  // The last new token is not added to the cache.
  const std::int64_t needed = static_cast<std::int64_t>(longest) + options.max_new_tokens - 1;
  auto [scores, cache] = decoder_->prefill(prompts, std::min(needed, signature_.max_length));

  std::vector<TokenIds> results(batch);
  std::vector<bool> running(batch, true);
  for (int count = 1;; ++count) {
    TokenIds tokens(batch, pad_);
    std::int64_t length = 0;  // of the longest running sequence in the cache
    for (std::size_t row = 0; row < batch; ++row) {
      if (running[row]) {
        tokens[row] = samplers[row].next(std::move(scores[row]));
        running[row] = std::find(stop.begin(), stop.end(), tokens[row]) == stop.end();
      }
      results[row].push_back(tokens[row]);
      if (running[row]) length = std::max(length, cache.length(row));
    }
    if (on_tokens && !on_tokens(tokens)) return results;
    if (count == options.max_new_tokens || length == 0) return results;
    if (length >= signature_.max_length)
      throw GenerationLimitError(
          "stopped after " + std::to_string(count) + " tokens: the model takes " +
              std::to_string(signature_.max_length) + " tokens, the prompt among them",
          std::move(results));
    for (std::size_t row = 0; row < batch; ++row) {
      if (running[row]) continue;
      // The results of this row are not used any more, and an empty sequence takes the least time.
      cache.clear(row);
      tokens[row] = 0;
    }
    scores = decoder_->step(tokens, cache);
  }
}

}  // namespace reformer
