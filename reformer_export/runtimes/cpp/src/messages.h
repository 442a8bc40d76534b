// Formats values for error messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reformer/error.h"

namespace reformer {

// 'text', on one line: control characters and bytes that are not UTF-8 become escapes such as \x0a.
// A long text is shortened.
std::string in_quotes(std::string_view text);
// [1, 2].
std::string listed(const std::vector<std::int64_t>& numbers);
// "a, b, c".
std::string joined(const std::vector<std::string>& parts, std::string_view separator = ", ");
// The text on one line. Use it for text from an untrusted file or a library's log. A sequence of
// white space becomes one space; control characters and bytes that are not UTF-8 become escapes
// such as \x1b.
std::string one_line(std::string_view text);
// The text for a terminal. Line breaks and tabs are kept; other control characters and bytes that
// are not UTF-8 become escapes such as \x1b.
std::string printable(std::string_view text);
// The system's message for an errno.
std::string reason_of(int error);
// The value of an environment variable; empty if it is not set.
std::string environment(const char* name);

// Throws Error; its message is the concatenation of the parts.
template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::string message;
  (message.append(parts), ...);
  throw Error(kind, message);
}

}  // namespace reformer
