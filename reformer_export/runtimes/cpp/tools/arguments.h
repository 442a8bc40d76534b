// The command line: the words of `reformer-export run`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "reformer/session.h"

namespace reformer {

struct Arguments {
  std::filesystem::path artifact;
  std::optional<std::filesystem::path> input_ids, attention_mask, text_file, output;
  std::optional<std::string> text;
  std::string tokenizer = "auto";
  Options options;
  int bench = 0;
  bool json = false, help = false, version = false;
};

// Throws Error (usage).
Arguments parse_arguments(const std::vector<std::string>& words);

std::string help_text();

}  // namespace reformer
