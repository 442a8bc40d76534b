#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <cxxopts.hpp>

#include "messages.h"

namespace reformer {
namespace {

template <typename... Parts>
[[noreturn]] void wrong_usage(const Parts&... parts) {
  fail(ErrorKind::usage, parts..., ": see reformer-run --help");
}

// Values that cxxopts stores as text and that have another type in Arguments.
struct Texts {
  std::optional<std::string> threads, bench;
  std::optional<std::string> max_new_tokens, temperature, top_k, top_p, repetition_penalty, seed,
      stop;
  std::string onnxruntime, ops_folder, tensorrt, engine;
};

cxxopts::Options declared_options(Arguments& a, Texts& texts) {
  using cxxopts::value;
  cxxopts::Options declared("reformer-run",
                            "Run ARTIFACT once and show its outputs, or continue the input.\n"
                            "Give one of --input-ids, --text, --text-file and --series.");
  declared.custom_help("[OPTIONS] ARTIFACT").set_width(100);
  auto add = declared.add_options();
  add("input-ids", "Token ids, [batch,] length.", value(a.input_ids), "FILE.npy");
  add("attention-mask", "1 for a token, 0 for padding.", value(a.attention_mask), "FILE.npy");
  add("text", "A text to encode.", value(a.text), "TEXT");
  add("text-file", "A file with the text.", value(a.text_file), "FILE");
  add("series", "Numbers, [[batch,] length,] channels.", value(a.series), "FILE.npy");
  add("time-features", "With --series: the times of all steps.", value(a.time_features),
      "FILE.npy");
  add("tokenizer", "auto: bytes, if the model has no tokenizer; bytes: always bytes.",
      value(a.tokenizer), "auto|bytes");
  add("runtime", "auto: the fastest runtime that works here.", value(a.options.runtime), "NAME");
  add("threads", "The maximum number of CPU threads.", value(texts.threads), "N");
  add("ops", "native: our kernels; portable: standard operators; auto: native if installed.",
      value(a.options.ops), "auto|native|portable");
  add("device", "The device that runs the model.", value(a.options.device), "cpu|cuda[:N]");
  add("output", "Save the outputs, or with --generate the tokens.", value(a.output),
      "FILE.npz|FILE.npy");
  add("bench", "Run N more times; show the time of a run and the peak memory.", value(texts.bench),
      "N");
  add("onnxruntime", "libonnxruntime or its folder.", value(texts.onnxruntime), "PATH");
  add("ops-folder", "The folder of the kernels' library.", value(texts.ops_folder), "FOLDER");
  add("tensorrt", "For engines: libtensorrt_rtx or libnvinfer, or its folder.",
      value(texts.tensorrt), "PATH");
  add("engine", "An engine built from ARTIFACT; it runs if it works here.", value(texts.engine),
      "FOLDER");
  add("generate", "Continue the input; show each new token immediately, as text after a text.",
      value(a.generate));
  add("max-new-tokens", "Generate at most N tokens (default 20).", value(texts.max_new_tokens),
      "N");
  add("temperature", "Divide the scores by X and sample; 0: choose the highest score.",
      value(texts.temperature), "X");
  add("top-k", "Sample from the K highest scores.", value(texts.top_k), "K");
  add("top-p", "Sample from the smallest set of likeliest tokens with total probability P.",
      value(texts.top_p), "P");
  add("repetition-penalty", "Divide by R the scores of tokens that the sequence contains.",
      value(texts.repetition_penalty), "R");
  add("seed", "The seed of the random numbers (default 0).", value(texts.seed), "S");
  add("stop", "Token ids that end a sequence, instead of the model's.", value(texts.stop),
      "ID,...");
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

// Parses the whole text as a number.
template <typename Number>
Number number(const char* option, const std::string& text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end)
    wrong_usage(option, " takes a ", std::is_integral_v<Number> ? "whole number" : "number",
                std::is_unsigned_v<Number> ? " of at least 0" : "", "; got ", in_quotes(text));
  return value;
}

// Parses ids that are separated by commas.
TokenIds ids(const char* option, const std::string& text) {
  TokenIds all;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    all.push_back(number<std::uint32_t>(option, text.substr(start, end - start)));
    start = end + 1;
  }
  return all;
}

// Reads the options of generation. Throws Error (usage) if one is given without --generate.
void read_generation(Arguments& arguments, const Texts& texts) {
  GenerationOptions& to = arguments.generation;
  const auto read = [&](const char* option, const std::optional<std::string>& text, auto&& parse) {
    if (!text) return;
    if (!arguments.generate) wrong_usage(option, " goes with --generate");
    parse(option, *text);
  };
  const auto into = [](auto& field) {
    return [&field](const char* option, const std::string& text) {
      field = number<std::decay_t<decltype(field)>>(option, text);
    };
  };
  read("--max-new-tokens", texts.max_new_tokens, into(to.max_new_tokens));
  read("--temperature", texts.temperature, [&](const char* option, const std::string& text) {
    to.temperature = number<double>(option, text);
  });
  read("--top-k", texts.top_k, into(to.top_k));
  read("--top-p", texts.top_p, into(to.top_p));
  read("--repetition-penalty", texts.repetition_penalty, into(to.repetition_penalty));
  read("--seed", texts.seed, into(to.seed));
  read("--stop", texts.stop,
       [&](const char* option, const std::string& text) { to.stop = ids(option, text); });
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
      if ((option.key() == "generate" || option.key() == "json" || option.key() == "version" ||
           option.key() == "help") &&
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
  read_generation(arguments, texts);
  if (texts.bench && arguments.generate)
    wrong_usage("--bench does not go with --generate: --json gives the time of a token");
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
