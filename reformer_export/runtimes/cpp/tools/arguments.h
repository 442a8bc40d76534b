// Parses the command line: the options of `reformer-export run` and `reformer-export generate`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "reformer/generator.h"
#include "reformer/session.h"

namespace reformer {

struct Arguments {
  std::string artifact;
  std::optional<std::string> input_ids, attention_mask, text, text_file, series, time_features,
      output;
  std::string tokenizer = "auto";
  Options options;
  int bench = 0;
  bool generate = false;
  GenerationOptions generation;
  bool json = false, help = false, version = false;
};

// Parses the arguments of main. Throws Error (usage).
Arguments parse_arguments(int count, const char* const* given);

std::string help_text();

}  // namespace reformer
