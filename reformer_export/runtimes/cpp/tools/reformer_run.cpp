// reformer-run: runs an artifact without Python. Results go to stdout, notes and errors to stderr.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <string_view>

#include "generating.h"
#include "messages.h"
#include "reformer/session.h"
#include "running.h"

namespace {

using reformer::one_line;

void print(const nlohmann::ordered_json& document) {
  // The output is ASCII. NaN and infinities become null; bytes that are not UTF-8 become a
  // replacement character.
  std::cout << document.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) << "\n";
}

int report(const std::string& message, int code, bool as_json) {
  std::cerr << "error: " << one_line(message) << "\n";
  if (as_json) print({{"error", one_line(message)}, {"exit_code", code}});
  return code;
}

void show_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::cerr << "note: " << one_line(note) << "\n";
}

int generate(const reformer::Arguments& arguments) {
  const reformer::GenerationResult result =
      reformer::generate_from(arguments, arguments.json ? nullptr : &std::cout);
  if (arguments.json) {
    print(reformer::document_of(result));
  } else {
    show_notes(result.notes);
    std::cerr << reformer::lines_of(result);
  }
  if (result.limit) std::cerr << "error: " << one_line(*result.limit) << "\n";
  return result.limit ? 1 : 0;
}

int run(int count, const char* const* given) {
  const reformer::Arguments arguments = reformer::parse_arguments(count, given);
  if (arguments.help) {
    std::cout << reformer::help_text();
    return 0;
  }
  if (arguments.version) {
    std::cout << "reformer-run " REFORMER_VERSION " (" << reformer::joined(reformer::runtimes())
              << ")\n";
    return 0;
  }
  if (arguments.generate) return generate(arguments);
  const reformer::RunResult result = reformer::run_artifact(arguments);
  if (arguments.json) {
    print(reformer::document_of(result));
    return 0;
  }
  show_notes(result.notes);
  std::cout << reformer::lines_of(result);
  return 0;
}

}  // namespace

int main(int count, char** given) {
  // Found without the parser, so that errors in the arguments are also reported as JSON.
  const bool as_json = std::find(given, given + count, std::string_view("--json")) != given + count;
  int code;
  try {
    code = run(count, given);
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
