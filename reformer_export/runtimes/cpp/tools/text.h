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
  // The byte of a token; nothing for a token that stands for none.
  std::string decode(std::int64_t token) const;
};

// Turns bytes into text as they come, without ever giving a part of a character. Bytes that are not
// UTF-8 become replacement characters, as many as in Python.
class TextStream {
 public:
  std::string add(const std::string& bytes);
  // What was held back, at the end of the bytes.
  std::string finish();

 private:
  std::string held_;  // the beginning of a character
};

// `tokenizer` is "auto" or "bytes". Throws Error (input) if the vocabulary is too small for bytes
// or, with "auto", if the model has a tokenizer that is not read here.
ByteCodec open_codec(const Artifact& artifact, const std::string& tokenizer);

}  // namespace reformer
