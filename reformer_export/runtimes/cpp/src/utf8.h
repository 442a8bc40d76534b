// Reads UTF-8 from untrusted bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace reformer {

enum class Utf8 { complete, incomplete, invalid };

// The first item of a text and its size in bytes. It is a complete character; an incomplete one, if
// the text ends inside a character; or invalid bytes, for which one replacement character stands
// (Unicode 15, section 3.9, "substitution of maximal subparts").
struct Utf8Front {
  Utf8 state;
  std::size_t size;
};

// Reads the first item. The text must not be empty.
inline Utf8Front utf8_front(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const std::size_t size = first < 0x80                    ? 1
                           : first >= 0xc2 && first < 0xe0 ? 2
                           : first >= 0xe0 && first < 0xf0 ? 3
                           : first >= 0xf0 && first < 0xf5 ? 4
                                                           : 0;
  if (size == 0) return {Utf8::invalid, 1};
  for (std::size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {Utf8::incomplete, i};
    // Overlong forms, surrogates and values above U+10FFFF are invalid.
    const bool second = i == 1;
    const unsigned char lowest = second && first == 0xe0   ? 0xa0
                                 : second && first == 0xf0 ? 0x90
                                                           : 0x80;
    const unsigned char highest = second && first == 0xed   ? 0x9f
                                  : second && first == 0xf4 ? 0x8f
                                                            : 0xbf;
    if (byte(i) < lowest || byte(i) > highest) return {Utf8::invalid, i};
  }
  return {Utf8::complete, size};
}

}  // namespace reformer
