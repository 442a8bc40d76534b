#include "messages.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace reformer {
namespace {

constexpr std::size_t kLongestQuote = 200;  // bytes

// The size of the UTF-8 character at the front of the text; 0 if the bytes there are not UTF-8.
std::size_t character_size(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t size = first < 0x80                    ? 1
                           : first >= 0xc2 && first < 0xe0 ? 2
                           : first >= 0xe0 && first < 0xf0 ? 3
                           : first >= 0xf0 && first < 0xf5 ? 4
                                                           : 0;
  if (size > text.size()) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  return size;
}

// Moves the character at the front of `text` to the end of `out`, printable.
void move_character(std::string_view& text, std::string& out) {
  const std::size_t size = character_size(text);
  const auto first = static_cast<unsigned char>(text[0]);
  if (size == 0 || first < 0x20 || first == 0x7f) {
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02x", first);
    out += code;
  } else {
    out += text.substr(0, size);
  }
  text.remove_prefix(std::max<std::size_t>(size, 1));
}

}  // namespace

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  while (!text.empty() && out.size() <= kLongestQuote) move_character(text, out);
  return out + (text.empty() ? "'" : "...'");
}

std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string out = "[";
  for (std::int64_t number : numbers) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(number);
  }
  return out + "]";
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += separator;
    out += part;
  }
  return out;
}

std::string one_line(std::string_view text) {
  std::string out;
  bool space = false;
  while (!text.empty()) {
    if (const char c = text[0]; c == ' ' || (c >= '\t' && c <= '\r')) {
      space = !out.empty();
      text.remove_prefix(1);
      continue;
    }
    if (space) out += ' ';
    space = false;
    move_character(text, out);
  }
  return out;
}

std::string reason_of(int error) { return std::generic_category().message(error); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace reformer
