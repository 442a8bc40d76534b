// Prints the likeliest token after a text, with a byte-level model: next_token ARTIFACT TEXT
#include <reformer/reformer.h>

#include <algorithm>
#include <iostream>

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: next_token ARTIFACT TEXT\n";
    return 2;
  }
  try {
    const auto artifact = reformer::Artifact::open(arguments[1]);
    const reformer::Session session(artifact);
    std::cerr << session.description() << "\n";

    const std::string text = arguments[2];
    // In a vocabulary of 258, two special ids precede the bytes.
    const int offset = artifact.signature().vocab_size == 258 ? 2 : 0;
    std::vector<std::int64_t> ids;
    for (unsigned char byte : text) ids.push_back(byte + offset);
    const auto length = static_cast<std::int64_t>(ids.size());

    const auto outputs = session.run({{"input_ids", reformer::Tensor::of({1, length}, ids)}});
    const reformer::Tensor* logits = reformer::find(outputs, "logits");  // [1, length, vocabulary]
    if (logits == nullptr) {
      std::cerr << "this model predicts no tokens\n";
      return 1;
    }
    const std::int64_t vocabulary = logits->shape().back();
    const float* last = logits->data<float>() + (length - 1) * vocabulary;
    std::cout << std::max_element(last, last + vocabulary) - last << "\n";
  } catch (const reformer::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return error.exit_code();
  }
}
