// Text to token ids for byte-level models, and a token id back to text. Tokenizers of other models
// are not read here: encode the text where they are, and give the token ids.
#pragma once

#include <cstdint>
#include <string>

#include "reformer/artifact.h"

namespace reformer {

// Token id = byte + offset.
struct ByteCodec {
  int offset = 0;
  std::string note;  // what the user must be told about the choice, if anything

  std::string name() const { return offset == 0 ? "bytes" : "bytes + " + std::to_string(offset); }
  Tensor encode(const std::string& text) const;  // [1, length]
  std::string describe(std::int64_t token) const;
};

// Throws Error (input) where bytes are not known to fit the vocabulary; `tokenizer` is "auto" or
// "bytes", which insists on them.
ByteCodec open_codec(const Artifact& artifact, const std::string& tokenizer);

}  // namespace reformer
