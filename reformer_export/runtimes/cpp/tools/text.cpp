#include "text.h"

#include "messages.h"
#include "utf8.h"

namespace reformer {
namespace {

constexpr std::int64_t kEnwik8Vocabulary = 258;
// The vocabulary of google/reformer-crime-and-punishment: its ids are SentencePiece pieces, not
// bytes.
constexpr std::int64_t kSentencePieceVocabulary = 320;

const std::string kReplacement = "\xef\xbf\xbd";  // U+FFFD

// An ASCII character in quotes, in the form of Python's repr, so that the JSON results of both
// programs are equal.
std::string as_in_python(char c) {
  switch (c) {
    case '\'':
      return "\"'\"";
    case '\\':
      return "'\\\\'";
    case '\n':
      return "'\\n'";
    case '\r':
      return "'\\r'";
    case '\t':
      return "'\\t'";
    default:
      return in_quotes({&c, 1});
  }
}

}  // namespace

Tensor ByteCodec::encode(const std::string& text) const {
  std::vector<std::int64_t> ids;
  for (char c : text) ids.push_back(static_cast<unsigned char>(c) + offset);
  const auto length = static_cast<std::int64_t>(ids.size());
  return Tensor::of({1, length}, std::move(ids));
}

std::string ByteCodec::describe(std::int64_t token) const {
  const std::string bytes = decode(token);
  if (bytes.empty()) return "(no byte)";
  const auto byte = static_cast<unsigned char>(bytes.front());
  if (byte < 128) return as_in_python(bytes.front());
  const char* digits = "0123456789abcdef";
  return std::string("byte 0x") + digits[byte / 16] + digits[byte % 16];
}

std::string ByteCodec::decode(std::int64_t token) const {
  const std::int64_t byte = token - offset;
  return byte < 0 || byte >= 256 ? "" : std::string(1, static_cast<char>(byte));
}

std::string TextStream::add(const std::string& bytes) {
  held_ += bytes;
  std::string text;
  while (!held_.empty()) {
    const auto [state, size] = utf8_front(held_);
    if (state == Utf8::incomplete) break;
    text += state == Utf8::complete ? held_.substr(0, size) : kReplacement;
    held_.erase(0, size);
  }
  return text;
}

std::string TextStream::finish() {
  const std::string text = held_.empty() ? "" : kReplacement;
  held_.clear();
  return text;
}

ByteCodec open_codec(const Artifact& artifact, const std::string& tokenizer) {
  const std::int64_t vocabulary = artifact.signature().vocab_size;
  const std::string size = std::to_string(vocabulary);
  if (tokenizer == "auto") {
    for (const char* name : {"tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json",
                             "vocab.txt", "merges.txt", "tokenizer_config.json"})
      if (!artifact.file(name).empty())
        fail(ErrorKind::input, "the artifact encodes text with its ", name,
             ", which this program does not read: encode it with reformer-export, and give the ",
             "token ids with --input-ids, or ask for --tokenizer bytes");
    if (vocabulary == kSentencePieceVocabulary)
      fail(ErrorKind::input, "the artifact has no tokenizer, and a vocabulary of ", size,
           " is that of SentencePiece Reformers, not of bytes: export again with spiece.model or ",
           "tokenizer.json beside the checkpoint, or ask for --tokenizer bytes");
  }
  if (vocabulary < 256)
    fail(ErrorKind::input, "the artifact has no tokenizer and its vocabulary of ", size,
         " cannot hold bytes: give the token ids with --input-ids");
  if (vocabulary == kEnwik8Vocabulary) return {2, ""};
  if (vocabulary == 256) return {};
  return {0, std::string(tokenizer == "bytes" ? "as asked" : "the artifact has no tokenizer") +
                 ": the text's raw bytes are the token ids 0..255 of a vocabulary of " + size +
                 "; if the model was trained on other tokens, its answer means nothing"};
}

}  // namespace reformer
