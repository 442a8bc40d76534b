#include "arguments.h"

#include <charconv>
#include <cxxopts.hpp>

#include "messages.h"

namespace reformer {
namespace {

template <typename... Parts>
[[noreturn]] void wrong_usage(const Parts&... parts) {
  fail(ErrorKind::usage, parts..., ": see reformer-run --help");
}

// Values that cxxopts stores as text and that Arguments has in another type.
struct Texts {
  std::optional<std::string> threads, bench;
  std::string onnxruntime, ops_folder, tensorrt, engine;
};

cxxopts::Options declared_options(Arguments& a, Texts& texts) {
  using cxxopts::value;
  cxxopts::Options declared("reformer-run",
                            "Run ARTIFACT once and show its outputs.\n"
                            "Give one of --input-ids, --text and --text-file.");
  declared.custom_help("[OPTIONS] ARTIFACT").set_width(100);
  auto add = declared.add_options();
  add("input-ids", "Token ids, [batch,] length.", value(a.input_ids), "FILE.npy");
  add("attention-mask", "1 token, 0 padding.", value(a.attention_mask), "FILE.npy");
  add("text", "A text to encode.", value(a.text), "TEXT");
  add("text-file", "A file with the text.", value(a.text_file), "FILE");
  add("tokenizer", "auto: bytes if the model takes bytes; bytes: insist on bytes.",
      value(a.tokenizer), "auto|bytes");
  add("runtime", "auto: the fastest that works here.", value(a.options.runtime), "NAME");
  add("threads", "CPU threads.", value(texts.threads), "N");
  add("ops", "native: our kernels; portable: standard operators; auto: native if installed.",
      value(a.options.ops), "auto|native|portable");
  add("device", "Where to run.", value(a.options.device), "cpu|cuda[:N]");
  add("output", "Save the outputs.", value(a.output), "FILE.npz");
  add("bench", "Then run N more times; show the time of a run and the memory.", value(texts.bench),
      "N");
  add("onnxruntime", "libonnxruntime or its folder.", value(texts.onnxruntime), "PATH");
  add("ops-folder", "The folder of the kernels' library.", value(texts.ops_folder), "FOLDER");
  add("tensorrt", "For engines: libtensorrt_rtx or libnvinfer, or its folder.",
      value(texts.tensorrt), "PATH");
  add("engine", "An engine of ARTIFACT, to run if it works here.", value(texts.engine), "FOLDER");
  add("json", "Print exactly one JSON document on stdout.", value(a.json));
  add("version", "Show the version and exit.", value(a.version));
  add("h,help", "Show this message and exit.", value(a.help));
  return declared;
}

int positive(const char* option, const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1)
    wrong_usage(option, " takes a whole number of at least 1; got ", in_quotes(text));
  return number;
}

void check_choice(const char* option, const std::string& text,
                  const std::vector<std::string>& known) {
  for (const std::string& each : known)
    if (text == each) return;
  wrong_usage(option, " takes one of ", joined(known), "; got ", in_quotes(text));
}

}  // namespace

Arguments parse_arguments(int count, const char* const* given) {
  Arguments arguments;
  Texts texts;
  std::vector<std::string> others;
  try {
    const auto parsed = declared_options(arguments, texts).parse(count, given);
    for (const auto& option : parsed.arguments())
      if ((option.key() == "json" || option.key() == "version" || option.key() == "help") &&
          option.value() != "true")
        wrong_usage("--", option.key(), " does not take a value");
    others = parsed.unmatched();
  } catch (const cxxopts::exceptions::exception& error) {
    wrong_usage(error.what());
  }
  if (arguments.help || arguments.version) return arguments;
  check_choice("--tokenizer", arguments.tokenizer, {"auto", "bytes"});
  check_choice("--ops", arguments.options.ops, {"auto", "native", "portable"});
  if (texts.threads) arguments.options.threads = positive("--threads", *texts.threads);
  if (texts.bench) arguments.bench = positive("--bench", *texts.bench);
  arguments.options.onnxruntime = texts.onnxruntime;
  arguments.options.ops_folder = texts.ops_folder;
  arguments.options.tensorrt = texts.tensorrt;
  arguments.options.engine = texts.engine;
  if (others.empty()) wrong_usage("ARTIFACT is missing");
  if (others.size() > 1) wrong_usage("one ARTIFACT is expected; got also ", in_quotes(others[1]));
  arguments.artifact = others.front();
  return arguments;
}

std::string help_text() {
  Arguments arguments;
  Texts texts;
  return declared_options(arguments, texts).help() + "\nExit codes: 0 ok, 1 failure, 2 usage.\n";
}

}  // namespace reformer
