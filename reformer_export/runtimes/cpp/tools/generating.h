// Continues prompts and shows each token as soon as it is generated.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "arguments.h"
#include "reformer/generator.h"

namespace reformer {

struct GenerationResult {
  std::string description;
  std::int64_t batch, prompt_length;  // prompts, and tokens of the longest one
  std::optional<std::string> encoding;
  std::vector<std::string> notes;
  std::vector<TokenIds> tokens;
  std::optional<std::string> text;  // of the tokens, if the prompt was a text
  double open_seconds, first_token_seconds;
  std::optional<double> ms_per_token;  // the mean time of a further step, for all rows
  std::optional<std::string> saved;
  std::optional<std::string> limit;  // the reason if there are fewer tokens than requested
};

// Generates, and writes to `shown` if it is not null: text if the prompt was a text, else ids.
// Throws Error.
GenerationResult generate_from(const Arguments& arguments, std::ostream* shown);

// The result as the JSON document of --json, and lines of text about it.
nlohmann::ordered_json document_of(const GenerationResult& result);
std::string lines_of(const GenerationResult& result);

}  // namespace reformer
