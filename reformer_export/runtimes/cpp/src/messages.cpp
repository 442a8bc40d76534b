#include "messages.h"

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "utf8.h"

namespace reformer {
namespace {

constexpr std::size_t kLongestQuote = 200;  // bytes

// Moves the first character of `text` to the end of `out`, in printable form.
void move_character(std::string_view& text, std::string& out) {
  const auto [state, found] = utf8_front(text);
  const std::size_t size = state == Utf8::complete ? found : 1;
  const auto first = static_cast<unsigned char>(text[0]);
  // U+0080 to U+009F are also control characters.
  const bool control = first < 0x20 || first == 0x7f ||
                       (first == 0xc2 && size == 2 && static_cast<unsigned char>(text[1]) < 0xa0);
  if (state != Utf8::complete || control) {
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned char>(text[size - 1]));
    out += code;
  } else {
    out += text.substr(0, size);
  }
  text.remove_prefix(size);
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

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (const char c = text[0]; c == '\n' || c == '\t') {
      out += c;
      text.remove_prefix(1);
    } else {
      move_character(text, out);
    }
  }
  return out;
}

std::string reason_of(int error) { return std::generic_category().message(error); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace reformer
