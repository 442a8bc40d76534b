// Error messages: how values are written in them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reformer/error.h"

namespace reformer {

// 'text', on one line: control characters and bytes that are not UTF-8 become \x0a and the like. A
// long text is cut.
std::string in_quotes(std::string_view text);
// [1, 2].
std::string listed(const std::vector<std::int64_t>& numbers);
// "a, b, c".
std::string joined(const std::vector<std::string>& parts, std::string_view separator = ", ");
// The text on one line, for a text that quotes a hostile file or a library's log: white space
// becomes one space; control characters and bytes that are not UTF-8 become \x1b and the like.
std::string one_line(std::string_view text);
// The text for a terminal, with line breaks and tabs as they are; other control characters and
// bytes that are not UTF-8 become \x1b and the like.
std::string printable(std::string_view text);
// The system's text for an errno.
std::string reason_of(int error);
// The value of an environment variable; empty if it is not set.
std::string environment(const char* name);

// Throws Error with the parts joined.
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::string message;
  (message.append(parts), ...);
  throw Error(kind, message);
}

}  // namespace reformer
