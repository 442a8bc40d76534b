#include "generating.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "clock.h"
#include "inputs.h"
#include "npy.h"
#include "shown.h"

namespace reformer {
namespace {

// The tokens of each row, without the padding, which generation does not accept.
std::vector<TokenIds> prompts_of(const NamedTensors& inputs) {
  const Tensor &ids = *find(inputs, "input_ids"), &mask = *find(inputs, "attention_mask");
  const auto columns = static_cast<std::size_t>(ids.shape()[1]);
  std::vector<TokenIds> prompts(static_cast<std::size_t>(ids.shape()[0]));
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (mask.data<std::int64_t>()[i] == 1)
      prompts[i / columns].push_back(ids.data<std::int64_t>()[i]);
  return prompts;
}

// The ids on one line, separated by spaces.
std::string line_of(const TokenIds& ids) {
  std::string line;
  for (std::int64_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  return line;
}

Tensor tensor_of(const std::vector<TokenIds>& rows) {
  TokenIds all;
  for (const TokenIds& row : rows) all.insert(all.end(), row.begin(), row.end());
  const auto batch = static_cast<std::int64_t>(rows.size()),
             length = static_cast<std::int64_t>(rows.front().size());
  return Tensor::of({batch, length}, std::move(all));
}

}  // namespace

GenerationResult generate_from(const Arguments& arguments, std::ostream* shown) {
  arguments.generation.check();
  check_files(arguments, ".npy");
  const Artifact artifact = Artifact::open(arguments.artifact);
  const Inputs inputs = read_inputs(arguments, artifact);
  const std::vector<TokenIds> prompts = prompts_of(inputs.tensors);

  double start = now();
  const Generator generator(artifact, arguments.options);
  GenerationResult result{};
  result.open_seconds = now() - start;
  result.description = generator.description();
  result.notes = generator.notes();
  result.batch = static_cast<std::int64_t>(prompts.size());
  for (const TokenIds& prompt : prompts)
    result.prompt_length = std::max(result.prompt_length, static_cast<std::int64_t>(prompt.size()));
  if (inputs.codec) {
    result.encoding = inputs.codec->name();
    result.text = "";
    if (!inputs.codec->note.empty()) result.notes.insert(result.notes.begin(), inputs.codec->note);
  }

  const auto show = [&](const std::string& text) {
    if (shown != nullptr) *shown << text << std::flush;
  };
  const auto say = [&](const std::string& text) {
    *result.text += text;
    show(printable(text));  // a model may generate control sequences for the terminal
  };
  TextStream stream;
  if (inputs.codec)  // the first new token may continue the prompt's last character
    for (const std::int64_t token : prompts.front()) stream.add(inputs.codec->decode(token));
  std::vector<double> times;
  const auto on_tokens = [&](const TokenIds& tokens) {
    times.push_back(now());
    if (inputs.codec)
      say(stream.add(inputs.codec->decode(tokens.front())));
    else if (prompts.size() == 1)
      show((times.size() > 1 ? " " : "") + line_of(tokens));
    return shown == nullptr || shown->good();
  };
  start = now();
  try {
    result.tokens = generator.generate(prompts, arguments.generation, on_tokens);
  } catch (const GenerationLimitError& error) {
    result.tokens = error.tokens();
    result.limit = error.what();
  }
  if (inputs.codec) say(stream.finish());
  if (prompts.size() == 1)
    show("\n");
  else
    for (const TokenIds& row : result.tokens) show(line_of(row) + "\n");

  result.first_token_seconds = times.front() - start;
  if (times.size() > 1)
    result.ms_per_token =
        1000 * (times.back() - times.front()) / static_cast<double>(times.size() - 1);
  if (arguments.output) {
    save(*arguments.output, [&](std::FILE* file) { write_npy(file, tensor_of(result.tokens)); });
    result.saved = *arguments.output;
  }
  return result;
}

nlohmann::ordered_json document_of(const GenerationResult& result) {
  using nlohmann::ordered_json;
  if (result.limit) return {{"error", *result.limit}, {"exit_code", 1}, {"tokens", result.tokens}};
  const auto optional = [](const auto& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  };
  return {{"description", result.description},
          {"prompt_length", result.prompt_length},
          {"encoding", optional(result.encoding)},
          {"notes", result.notes},
          {"tokens", result.tokens},
          {"text", optional(result.text)},
          {"open_seconds", result.open_seconds},
          {"first_token_s", result.first_token_seconds},
          {"ms_per_token", optional(result.ms_per_token)},
          {"saved", optional(result.saved)}};
}

std::string lines_of(const GenerationResult& result) {
  const std::string encoding = result.encoding ? ", encoded as " + *result.encoding : "";
  const std::string further =
      result.ms_per_token ? ", then " + fixed(*result.ms_per_token, 2) + " ms a token" : "";
  return labelled("runtime", result.description) +
         labelled("prompt", std::to_string(result.batch) + " x " +
                                std::to_string(result.prompt_length) + " tokens" + encoding) +
         labelled("time", "first token after " + fixed(result.first_token_seconds, 3) + " s" +
                              further + " (" + std::to_string(result.tokens.front().size()) +
                              " tokens)") +
         (result.saved ? labelled("saved", *result.saved) : "");
}

}  // namespace reformer
