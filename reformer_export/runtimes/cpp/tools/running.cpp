#include "running.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "clock.h"
#include "inputs.h"
#include "messages.h"
#include "npy.h"
#include "numbers.h"
#include "reformer/reformer.h"
#include "shown.h"

namespace reformer {
namespace {

constexpr std::size_t kRowsShown = 4;

// The peak physical memory of this process, in bytes.
std::int64_t peak_rss() {
  // getrusage is the second choice: it also counts the memory of the parent process before exec.
  std::ifstream status("/proc/self/status");
  std::int64_t kilobytes = 0;
  for (std::string word; status >> word;)
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

// The highest logit of each row; empty for a model without logits. The logits are [batch, classes],
// [batch, sequence, vocabulary] or, if the model returns only those of the last token,
// [batch, 1, vocabulary]. The mask gives the last token of a row.
std::vector<Prediction> top_predictions(const NamedTensors& outputs, const Tensor* mask,
                                        const std::optional<ByteCodec>& codec) {
  const Tensor* logits = find(outputs, "logits");
  if (logits == nullptr || mask == nullptr || logits->size() == 0) return {};
  const Shape& shape = logits->shape();
  if (shape.size() != 2 && shape.size() != 3) return {};
  const std::int64_t classes = shape.back(), length = mask->shape()[1];
  std::vector<Prediction> all;
  for (std::int64_t row = 0; row < shape[0]; ++row) {
    Prediction prediction{row, {}, 0, 0.0, {}};
    std::int64_t first = row * classes;
    if (shape.size() == 3) {
      const std::int64_t* tokens = mask->data<std::int64_t>() + row * length;
      std::int64_t last = length - 1;
      while (last > 0 && tokens[last] == 0) --last;
      const bool last_only = shape[1] < length;
      if (tokens[last] == 0) last = last_only ? 0 : length - 1;
      prediction.position = last;
      first = (row * shape[1] + (last_only ? 0 : last)) * classes;
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

}  // namespace

RunResult run_artifact(const Arguments& arguments) {
  check_files(arguments, ".npz");
  const Artifact artifact = Artifact::open(arguments.artifact);
  const Inputs inputs = read_inputs(arguments, artifact);
  const NamedTensors& checked = inputs.tensors;

  double start = now();
  const Session session(artifact, arguments.options);
  const double open_seconds = now() - start;
  start = now();
  NamedTensors outputs = session.run(checked);
  const double run_seconds = now() - start;

  const Shape& shape = checked.front().second.shape();  // batch and length come first
  RunResult result{session.runtime(),
                   session.description(),
                   shape[0],
                   shape[1],
                   artifact.signature().unit(),
                   {},
                   session.notes(),
                   open_seconds,
                   run_seconds,
                   {},
                   {},
                   {},
                   {}};
  if (inputs.codec) {
    result.encoding = inputs.codec->name();
    if (!inputs.codec->note.empty()) result.notes.insert(result.notes.begin(), inputs.codec->note);
  }
  if (arguments.output) {
    save(*arguments.output, [&](std::FILE* file) { write_npz(file, outputs); });
    result.saved = *arguments.output;
  }
  result.predictions = top_predictions(outputs, find(checked, "attention_mask"), inputs.codec);
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
          {"unit", result.unit},
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
  const auto line = [&](const char* label, const std::string& value) {
    text += labelled(label, value);
  };
  const double tokens = static_cast<double>(result.batch * result.length);
  line("runtime", result.runtime + " (" + result.description + ")");
  line("input", std::to_string(result.batch) + " x " + std::to_string(result.length) + " " +
                    result.unit + (result.encoding ? ", encoded as " + *result.encoding : ""));
  line("time", fixed(result.run_seconds, 3) + " s (" +
                   with_commas(tokens / std::max(result.run_seconds, 1e-9)) + " " + result.unit +
                   "/s), opened in " + fixed(result.open_seconds, 3) + " s");
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
