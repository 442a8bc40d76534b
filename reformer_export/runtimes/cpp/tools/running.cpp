#include "running.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "files.h"
#include "messages.h"
#include "npy.h"
#include "reformer/reformer.h"
#include "text.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRowsShown = 4;

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

// The peak physical memory of this process, in bytes.
std::int64_t peak_rss() {
  // getrusage also counts the memory of the parent process before exec.
  std::ifstream status("/proc/self/status");
  std::int64_t kilobytes = 0;
  for (std::string word; status >> word;)
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

// Requires the suffix .npz, so that a typing error cannot overwrite a model or a text.
void check_destination(const fs::path& path) {
  std::error_code error;
  if (path.extension() != ".npz")
    fail(ErrorKind::usage, "--output ", path.string(), ": name a .npz file");
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (fs::is_directory(path, error) || !fs::is_directory(folder, error))
    fail(ErrorKind::usage, "--output ", path.string(),
         ": its folder does not exist, or it is one: name a file");
}

void save(const fs::path& path, const NamedTensors& outputs) {
  try {
    write_atomically(path, [&](std::FILE* file) { write_npz(file, outputs); });
  } catch (const std::system_error& error) {
    fail(ErrorKind::output, "cannot write ", path.string(), ": ", reason_of(error.code().value()),
         "; nothing was written");
  }
}

std::string read_text(const fs::path& path) {
  try {
    return read_whole(path);
  } catch (const std::system_error& error) {
    fail(ErrorKind::input, "cannot read ", path.string(), ": ", reason_of(error.code().value()));
  }
}

double half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value;
  if (exponent == 31)
    value = fraction == 0 ? INFINITY : NAN;
  else
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

double number_at(const Tensor& tensor, std::size_t index) {
  switch (tensor.dtype()) {
    case DType::float32:
      return tensor.data<float>()[index];
    case DType::float64:
      return tensor.data<double>()[index];
    case DType::float16:
      return half(tensor.data<std::uint16_t>()[index]);
    case DType::bfloat16: {
      const std::uint32_t bits = std::uint32_t{tensor.data<std::uint16_t>()[index]} << 16;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
    default:
      return NAN;
  }
}

// The highest logit of each row. Logits are [batch, classes], or [batch, sequence, vocabulary]:
// then those at the row's last token that the mask keeps. Empty for a model without logits.
std::vector<Prediction> top_predictions(const NamedTensors& outputs, const Tensor& mask,
                                        const std::optional<ByteCodec>& codec) {
  const Tensor* logits = find(outputs, "logits");
  if (logits == nullptr || logits->size() == 0) return {};
  const Shape& shape = logits->shape();
  if (shape.size() != 2 && shape.size() != 3) return {};
  const std::int64_t classes = shape.back(), length = mask.shape()[1];
  std::vector<Prediction> all;
  for (std::int64_t row = 0; row < shape[0]; ++row) {
    Prediction prediction{row, {}, 0, 0.0, {}};
    std::int64_t first = row * classes;
    if (shape.size() == 3) {
      const std::int64_t* tokens = mask.data<std::int64_t>() + row * length;
      std::int64_t last = length - 1;
      while (last > 0 && tokens[last] == 0) --last;
      if (tokens[last] == 0) last = length - 1;
      prediction.position = last;
      first = (row * shape[1] + last) * classes;
    }
    prediction.score = number_at(*logits, static_cast<std::size_t>(first));
    for (std::int64_t i = 1; i < classes && !std::isnan(prediction.score); ++i) {
      const double score = number_at(*logits, static_cast<std::size_t>(first + i));
      if (score > prediction.score || std::isnan(score)) {  // like numpy.argmax
        prediction.score = score;
        prediction.index = i;
      }
    }
    if (codec && prediction.position) prediction.text = codec->describe(prediction.index);
    all.push_back(prediction);
  }
  return all;
}

Bench measure(const Session& session, const NamedTensors& inputs, int runs) {
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) {
    const double start = now();
    session.run(inputs);
    seconds.push_back(now() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  const std::size_t middle = seconds.size() / 2;
  const double median =
      seconds.size() % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2;
  return {runs, median, seconds.front(), peak_rss()};
}

std::string with_commas(double number) {
  std::string digits = std::to_string(static_cast<long long>(std::llround(number)));
  for (int place = static_cast<int>(digits.size()) - 3; place > 0; place -= 3)
    digits.insert(static_cast<std::size_t>(place), ",");
  return digits;
}

std::string fixed(double number, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, number);
  return text;
}

}  // namespace

RunResult run_artifact(const Arguments& arguments) {
  if (arguments.input_ids.has_value() + arguments.text.has_value() +
          arguments.text_file.has_value() !=
      1)
    fail(ErrorKind::usage, "give exactly one of --input-ids, --text and --text-file");
  if (arguments.attention_mask && !arguments.input_ids)
    fail(ErrorKind::usage, "--attention-mask goes with --input-ids: a text has no padding");
  if (arguments.output) check_destination(*arguments.output);

  const Artifact artifact = Artifact::open(arguments.artifact);
  std::optional<ByteCodec> codec;
  NamedTensors inputs;
  if (arguments.input_ids) {
    inputs.emplace_back("input_ids", read_npy(*arguments.input_ids, "input_ids"));
    if (arguments.attention_mask)
      inputs.emplace_back("attention_mask", read_npy(*arguments.attention_mask, "attention_mask"));
  } else {
    codec = open_codec(artifact, arguments.tokenizer);
    inputs.emplace_back(
        "input_ids",
        codec->encode(arguments.text ? *arguments.text : read_text(*arguments.text_file)));
  }
  const NamedTensors checked = artifact.signature().check(inputs);

  double start = now();
  const Session session(artifact, arguments.options);
  const double open_seconds = now() - start;
  start = now();
  NamedTensors outputs = session.run(checked);
  const double run_seconds = now() - start;

  const Tensor& ids = *find(checked, "input_ids");
  RunResult result{session.runtime(),
                   session.description(),
                   ids.shape()[0],
                   ids.shape()[1],
                   {},
                   session.notes(),
                   open_seconds,
                   run_seconds,
                   {},
                   {},
                   {},
                   {}};
  if (codec) {
    result.encoding = codec->name();
    if (!codec->note.empty()) result.notes.insert(result.notes.begin(), codec->note);
  }
  if (arguments.output) {
    save(*arguments.output, outputs);
    result.saved = *arguments.output;
  }
  result.predictions = top_predictions(outputs, *find(checked, "attention_mask"), codec);
  result.outputs = std::move(outputs);
  if (arguments.bench > 0) result.bench = measure(session, checked, arguments.bench);
  return result;
}

nlohmann::ordered_json document_of(const RunResult& result) {
  using nlohmann::ordered_json;
  const auto optional = [](const auto& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  };
  ordered_json outputs = ordered_json::object(), predictions = ordered_json::array();
  for (const auto& [name, tensor] : result.outputs)
    outputs[name] = {{"dtype", dtype_name(tensor.dtype())}, {"shape", tensor.shape()}};
  for (const Prediction& prediction : result.predictions)
    predictions.push_back({{"row", prediction.row},
                           {"position", optional(prediction.position)},
                           {"index", prediction.index},
                           {"score", prediction.score},
                           {"text", optional(prediction.text)}});
  ordered_json bench;
  if (result.bench)
    bench = {{"runs", result.bench->runs},
             {"median_seconds", result.bench->median_seconds},
             {"best_seconds", result.bench->best_seconds},
             {"peak_rss_bytes", result.bench->peak_rss_bytes}};
  return {{"runtime", result.runtime},
          {"description", result.description},
          {"batch", result.batch},
          {"length", result.length},
          {"encoding", optional(result.encoding)},
          {"notes", result.notes},
          {"open_seconds", result.open_seconds},
          {"run_seconds", result.run_seconds},
          {"outputs", outputs},
          {"predictions", predictions},
          {"saved", optional(result.saved)},
          {"bench", bench}};
}

std::string lines_of(const RunResult& result) {
  std::string text;
  const auto line = [&](std::string label, const std::string& value) {
    label.resize(9, ' ');
    text += label + one_line(value) + "\n";
  };
  const double tokens = static_cast<double>(result.batch * result.length);
  line("runtime", result.runtime + " (" + result.description + ")");
  line("input", std::to_string(result.batch) + " x " + std::to_string(result.length) + " tokens" +
                    (result.encoding ? ", encoded as " + *result.encoding : ""));
  line("time", fixed(result.run_seconds, 3) + " s (" +
                   with_commas(tokens / std::max(result.run_seconds, 1e-9)) +
                   " tokens/s), opened in " + fixed(result.open_seconds, 3) + " s");
  if (result.bench)
    line("bench", std::to_string(result.bench->runs) + " runs: median " +
                      fixed(result.bench->median_seconds, 4) + " s, best " +
                      fixed(result.bench->best_seconds, 4) + " s; peak memory " +
                      with_commas(static_cast<double>(result.bench->peak_rss_bytes) / (1 << 20)) +
                      " MiB");
  for (const auto& [name, tensor] : result.outputs)
    line("output", name + ": " + dtype_name(tensor.dtype()) + " " + listed(tensor.shape()));
  for (std::size_t i = 0; i < std::min(result.predictions.size(), kRowsShown); ++i) {
    const Prediction& prediction = result.predictions[i];
    std::string place = "row " + std::to_string(prediction.row);
    if (prediction.position) place += ", after token " + std::to_string(*prediction.position);
    line("top", place + ": " + std::to_string(prediction.index) +
                    (prediction.text ? " " + *prediction.text : "") + " (logit " +
                    fixed(prediction.score, 4) + ")");
  }
  if (result.predictions.size() > kRowsShown)
    line("", "... and " + std::to_string(result.predictions.size() - kRowsShown) + " rows more");
  if (result.saved) line("saved", *result.saved);
  return text;
}

}  // namespace reformer
