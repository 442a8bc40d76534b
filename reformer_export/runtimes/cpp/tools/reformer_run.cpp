// reformer-run: an artifact, run where there is no Python. Results go to stdout, all else to
// stderr.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "reformer/session.h"
#include "running.h"
#include "words.h"

namespace {

using reformer::one_line;

void print(const nlohmann::ordered_json& document) {
  // In ASCII; what JSON has no word for becomes null, and what is no UTF-8 a replacement character.
  std::cout << document.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) << "\n";
}

int report(const std::string& message, int code, bool as_json) {
  std::cerr << "error: " << one_line(message) << "\n";
  if (as_json) print({{"error", one_line(message)}, {"exit_code", code}});
  return code;
}

int run(const std::vector<std::string>& words) {
  const reformer::Arguments arguments = reformer::parse_arguments(words);
  if (arguments.help) {
    std::cout << reformer::help_text();
    return 0;
  }
  if (arguments.version) {
    std::cout << "reformer-run " REFORMER_VERSION " (" << reformer::joined(reformer::runtimes())
              << ")\n";
    return 0;
  }
  const reformer::RunResult result = reformer::run_artifact(arguments);
  if (arguments.json) {
    print(reformer::document_of(result));
    return 0;
  }
  for (const std::string& note : result.notes) std::cerr << "note: " << one_line(note) << "\n";
  std::cout << reformer::lines_of(result);
  return 0;
}

}  // namespace

int main(int count, char** given) {
  const std::vector<std::string> words(given + 1, given + std::max(count, 1));
  const bool as_json = std::find(words.begin(), words.end(), "--json") != words.end();
  int code;
  try {
    code = run(words);
  } catch (const reformer::Error& error) {
    code = report(error.what(), error.exit_code(), as_json);
  } catch (const std::bad_alloc&) {
    code = report("out of memory: use a shorter sequence or a smaller batch", 1, as_json);
  } catch (const std::exception& error) {
    code = report(std::string("unexpected error: ") + error.what() + " (a bug?)", 1, as_json);
  }
  std::cout.flush();
  return std::cout ? code : std::max(code, 1);
}
