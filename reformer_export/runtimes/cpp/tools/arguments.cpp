#include "arguments.h"

#include <charconv>
#include <functional>

#include "words.h"

namespace reformer {
namespace {

constexpr const char* kHelp = " See 'reformer-run --help'.";

struct Option {
  const char* name;
  const char* value;  // what its value is called; null for a flag
  const char* help;
  std::function<void(Arguments&, const std::string&)> set;
};

template <typename... Parts>
[[noreturn]] void wrong_usage(const Parts&... parts) {
  fail(ErrorKind::usage, parts..., kHelp);
}

int positive(const char* option, const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    wrong_usage("Invalid value for '", option, "': ", repr(text), " is not a valid integer range.");
  if (number < 1)
    wrong_usage("Invalid value for '", option, "': ", text, " is not in the range x>=1.");
  return number;
}

std::string one_of(const char* option, const std::string& text,
                   const std::vector<std::string>& known) {
  std::vector<std::string> names;
  for (const std::string& each : known) {
    if (text == each) return text;
    names.push_back(repr(each));
  }
  wrong_usage("Invalid value for '", option, "': ", repr(text), " is not one of ", joined(names),
              ".");
}

const std::vector<Option>& options() {
  static const std::vector<Option> all{
      {"--input-ids", "FILE.npy", "Token ids, [batch,] length.",
       [](Arguments& a, const std::string& v) { a.input_ids = v; }},
      {"--attention-mask", "FILE.npy", "1 token, 0 padding.",
       [](Arguments& a, const std::string& v) { a.attention_mask = v; }},
      {"--text", "TEXT", "A text to encode.",
       [](Arguments& a, const std::string& v) { a.text = v; }},
      {"--text-file", "FILE", "A file with the text.",
       [](Arguments& a, const std::string& v) { a.text_file = v; }},
      {"--tokenizer", "[auto|bytes]", "auto: bytes where they fit; bytes: insist on bytes.",
       [](Arguments& a, const std::string& v) {
         a.tokenizer = one_of("--tokenizer", v, {"auto", "bytes"});
       }},
      {"--runtime", "NAME", "auto: the fastest that works here.",
       [](Arguments& a, const std::string& v) { a.options.runtime = v; }},
      {"--threads", "N", "CPU threads.",
       [](Arguments& a, const std::string& v) { a.options.threads = positive("--threads", v); }},
      {"--ops", "[auto|native|portable]",
       "native: by our kernels; portable: by standard operations; auto: native where installed.",
       [](Arguments& a, const std::string& v) {
         a.options.ops = one_of("--ops", v, {"auto", "native", "portable"});
       }},
      {"--device", "cpu|cuda[:N]", "Where to run.",
       [](Arguments& a, const std::string& v) { a.options.device = v; }},
      {"--output", "FILE.npz", "Save the outputs.",
       [](Arguments& a, const std::string& v) { a.output = v; }},
      {"--bench", "N", "Then run N times more and tell the time of each run and the memory.",
       [](Arguments& a, const std::string& v) { a.bench = positive("--bench", v); }},
      {"--onnxruntime", "PATH", "libonnxruntime or its folder.",
       [](Arguments& a, const std::string& v) { a.options.onnxruntime = v; }},
      {"--ops-folder", "FOLDER", "Where the kernels' library is.",
       [](Arguments& a, const std::string& v) { a.options.ops_folder = v; }},
      {"--tensorrt", "PATH", "For engines: libtensorrt_rtx or libnvinfer, or its folder.",
       [](Arguments& a, const std::string& v) { a.options.tensorrt = v; }},
      {"--engine", "FOLDER", "An engine of ARTIFACT, to run where it works here.",
       [](Arguments& a, const std::string& v) { a.options.engine = v; }},
      {"--json", nullptr, "Print exactly one JSON document on stdout.",
       [](Arguments& a, const std::string&) { a.json = true; }},
      {"--version", nullptr, "Show the version and exit.",
       [](Arguments& a, const std::string&) { a.version = true; }},
      {"--help", nullptr, "Show this message and exit.",
       [](Arguments& a, const std::string&) { a.help = true; }},
  };
  return all;
}

const Option& option_named(const std::string& name) {
  for (const Option& option : options())
    if (name == option.name || (name == "-h" && std::string("--help") == option.name))
      return option;
  wrong_usage("No such option ", repr(name), ".");
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  std::vector<std::string> plain;
  bool options_end = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (options_end || word.size() < 2 || word[0] != '-') {
      plain.push_back(word);
      continue;
    }
    if (word == "--") {
      options_end = true;
      continue;
    }
    const std::size_t equals = word.find('=');
    const Option& option = option_named(word.substr(0, equals));
    std::string value;
    if (option.value == nullptr) {
      if (equals != word.npos)
        fail(ErrorKind::usage, "Option '", option.name, "' does not take a value.");
    } else if (equals != word.npos) {
      value = word.substr(equals + 1);
    } else if (++i < words.size()) {
      value = words[i];
    } else {
      fail(ErrorKind::usage, "Option '", option.name, "' requires an argument.");
    }
    option.set(arguments, value);
  }
  if (arguments.help || arguments.version) return arguments;
  if (plain.empty()) wrong_usage("Missing argument 'ARTIFACT'.");
  if (plain.size() > 1) wrong_usage("Got unexpected extra argument (", plain[1], ")");
  arguments.artifact = plain.front();
  return arguments;
}

std::string help_text() {
  std::string text =
      "Usage: reformer-run [OPTIONS] ARTIFACT\n\n"
      "  Run ARTIFACT once and show its outputs.\n\n"
      "  Give one of --input-ids, --text and --text-file.\n\nOptions:\n";
  for (const Option& option : options()) {
    std::string left = std::string("  ") + option.name;
    if (option.value != nullptr) left += std::string(" ") + option.value;
    left.resize(std::max<std::size_t>(left.size() + 2, 33), ' ');
    text += left + option.help + "\n";
  }
  return text + "\nExit codes: 0 ok, 1 failure, 2 usage.\n";
}

}  // namespace reformer
