// Continues a text with a byte-level model, which was exported with
// --task text-generation-with-past: generate ARTIFACT TEXT [TEMPERATURE]
#include <reformer/reformer.h>

#include <cstdlib>
#include <iostream>

int main(int count, char** arguments) {
  if (count != 3 && count != 4) {
    std::cerr << "usage: generate ARTIFACT TEXT [TEMPERATURE]\n";
    return 2;
  }
  try {
    const auto artifact = reformer::Artifact::open(arguments[1]);
    const reformer::Generator generator(artifact);
    std::cerr << generator.description() << "\n";

    const std::string text = arguments[2];
    // In a vocabulary of 258, two special ids precede the bytes.
    const int offset = artifact.signature().vocab_size == 258 ? 2 : 0;
    reformer::TokenIds prompt;
    for (unsigned char byte : text) prompt.push_back(byte + offset);

    reformer::GenerationOptions options;
    options.max_new_tokens = 100;
    if (count == 4) options.temperature = std::atof(arguments[3]);  // default: greedy
    std::cout << text;
    generator.generate({prompt}, options, [&](const reformer::TokenIds& tokens) {
      // One token for each prompt. A token that is not a byte has no text.
      const std::int64_t byte = tokens.front() - offset;
      if (byte >= 0 && byte < 256) std::cout << static_cast<char>(byte) << std::flush;
      return true;  // false would stop here
    });
    std::cout << "\n";
  } catch (const reformer::GenerationLimitError& error) {
    std::cout << "\n";
    std::cerr << error.what() << "\n";  // the text up to the limit was printed
  } catch (const reformer::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return error.exit_code();
  }
}
