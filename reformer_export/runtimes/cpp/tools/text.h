// Converts text to token ids and back, for byte-level models only. For other models, encode the
// text with reformer-export and pass the token ids.
#pragma once

#include <cstdint>
#include <string>

#include "reformer/artifact.h"

namespace reformer {

// Token id = byte + offset.
struct ByteCodec {
  int offset = 0;
  std::string note;  // a note for the user, if not empty

  std::string name() const { return offset == 0 ? "bytes" : "bytes + " + std::to_string(offset); }
  Tensor encode(const std::string& text) const;  // [1, length]
  std::string describe(std::int64_t token) const;
  // The byte of a token; empty if the token is not a byte.
  std::string decode(std::int64_t token) const;
};

// Converts bytes to text as soon as a character is complete. Bytes that are not UTF-8 become
// replacement characters, in the same number as in Python.
class TextStream {
 public:
  // Returns the text that these bytes complete.
  std::string add(const std::string& bytes);
  // Call it after the last bytes. Returns a replacement character for an incomplete character.
  std::string finish();

 private:
  std::string held_;  // the bytes of an incomplete character
};

// `tokenizer` is "auto" or "bytes". Throws Error (input) if the vocabulary is too small for bytes
// or, with "auto", if the model needs a tokenizer, which this program cannot read.
ByteCodec open_codec(const Artifact& artifact, const std::string& tokenizer);

}  // namespace reformer
