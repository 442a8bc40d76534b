// Sentences: the same words as Python's, so that one error has one text everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reformer/error.h"

namespace reformer {

// Python's repr of a string: 'a\nb'.
std::string repr(std::string_view text);
// Python's str of a list of integers: [1, 2].
std::string listed(const std::vector<std::int64_t>& numbers);
// "a, b, c".
std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ");
// Without line breaks, control characters or what is no UTF-8: it may quote a hostile file, or a
// library's log.
std::string one_line(std::string_view text);
// What errno stands for.
std::string reason_of(int error);
// The value of an environment variable; empty when it is not set.
std::string environment(const char* name);

template <typename... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::string message;
  (message.append(parts), ...);
  throw Error(kind, message);
}

}  // namespace reformer
