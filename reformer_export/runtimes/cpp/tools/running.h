// Runs an artifact once and shows the result, like reformer_export/inference/running.py.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "reformer/tensor.h"

namespace reformer {

// The highest logit of a row: at its last token (`position`), or of the whole row if the model
// gives one set of logits for each row.
struct Prediction {
  std::int64_t row;
  std::optional<std::int64_t> position;
  std::int64_t index;
  double score;
  std::optional<std::string> text;
};

// The measured runs, which follow the first run.
struct Bench {
  int runs;
  double median_seconds, best_seconds;
  std::int64_t peak_rss_bytes;  // the peak of the process
};

struct RunResult {
  std::string runtime, description;
  std::int64_t batch, length;
  std::string unit;  // "tokens" or "steps"
  std::optional<std::string> encoding;
  std::vector<std::string> notes;
  double open_seconds, run_seconds;
  NamedTensors outputs;
  std::vector<Prediction> predictions;
  std::optional<std::string> saved;
  std::optional<Bench> bench;
};

// Runs the artifact, and saves the outputs if requested. Throws Error.
RunResult run_artifact(const Arguments& arguments);

// The result as the JSON document of --json, and as text.
nlohmann::ordered_json document_of(const RunResult& result);
std::string lines_of(const RunResult& result);

}  // namespace reformer
