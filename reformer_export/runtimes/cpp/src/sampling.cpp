#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "messages.h"

namespace reformer {
namespace {

constexpr double kDropped = -std::numeric_limits<double>::infinity();

std::string spelled(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  return text;
}

// The index of the first highest score, or of the first NaN if there is one, like numpy.argmax.
std::size_t highest(const Scores& scores) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < scores.size() && !std::isnan(scores[best]); ++i)
    if (scores[i] > scores[best] || std::isnan(scores[i])) best = i;
  return best;
}

// Keeps the `count` highest scores; scores equal to the lowest of these are also kept.
void keep_highest(Scores& scores, std::size_t count) {
  Scores sorted = scores;
  const auto last = sorted.begin() + static_cast<std::ptrdiff_t>(count) - 1;
  std::nth_element(sorted.begin(), last, sorted.end(), std::greater<>());
  for (double& score : scores)
    if (score < *last) score = kDropped;
}

void keep_likeliest(Scores& scores, double probability) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  Scores weights;
  for (std::size_t i : order) weights.push_back(std::exp(scores[i] - scores[order[0]]));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double before = 0.0;  // the total probability of the more likely tokens
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && before >= probability) scores[order[i]] = kDropped;
    before += weights[i] / total;
  }
}

}  // namespace

void GenerationOptions::check() const {
  const auto require = [](bool right, const char* option, const std::string& value,
                          const char* remedy) {
    if (!right) fail(ErrorKind::usage, option, " ", value, ": give ", remedy);
  };
  require(max_new_tokens >= 1, "--max-new-tokens", std::to_string(max_new_tokens), "1 or more");
  require(!temperature || (*temperature >= 0 && std::isfinite(*temperature)), "--temperature",
          spelled(temperature.value_or(0)), "0 or more");
  require(top_k >= 0, "--top-k", std::to_string(top_k), "0 (all) or more");
  require(0 < top_p && top_p <= 1, "--top-p", spelled(top_p), "more than 0 and at most 1");
  require(0 < repetition_penalty && std::isfinite(repetition_penalty), "--repetition-penalty",
          spelled(repetition_penalty), "more than 0");
}

Sampler::Sampler(const GenerationOptions& options, const TokenIds& prompt, std::size_t row)
    : options_(options),
      greedy_(options.temperature ? *options.temperature == 0
                                  : options.top_k == 0 && options.top_p == 1),
      used_(prompt.begin(), prompt.end()) {
  // The C++ standard defines the results of seed_seq and of the engine, but not those of
  // std::uniform_real_distribution.
  std::seed_seq seeds{options.seed & UINT32_MAX, options.seed >> 32,
                      std::uint64_t{row} & UINT32_MAX, std::uint64_t{row} >> 32};
  engine_.seed(seeds);
}

std::int64_t Sampler::next(Scores scores) {
  if (options_.repetition_penalty != 1)
    for (std::int64_t token : used_) {
      double& score = scores[static_cast<std::size_t>(token)];
      score = score < 0 ? score * options_.repetition_penalty : score / options_.repetition_penalty;
    }
  const std::int64_t token = chosen(scores);
  used_.insert(token);
  return token;
}

std::int64_t Sampler::chosen(Scores& scores) {
  if (greedy_) return static_cast<std::int64_t>(highest(scores));
  if (options_.temperature)
    for (double& score : scores) score /= *options_.temperature;
  const double top = scores[highest(scores)];
  if (!std::isfinite(top))
    fail(ErrorKind::inference, "cannot draw a token: the highest score is ", spelled(top),
         options_.temperature ? ", divided by the temperature " + spelled(*options_.temperature)
                              : "",
         ": give a higher --temperature, or --temperature 0");
  if (options_.top_k > 0 && options_.top_k < static_cast<std::int64_t>(scores.size()))
    keep_highest(scores, static_cast<std::size_t>(options_.top_k));
  if (options_.top_p < 1) keep_likeliest(scores, options_.top_p);
  for (double& score : scores) score = std::exp(score - top);
  std::partial_sum(scores.begin(), scores.end(), scores.begin());
  const auto found = std::upper_bound(scores.begin(), scores.end(), random() * scores.back());
  return found - scores.begin();
}

// A number from 0 (inclusive) to 1 (exclusive), from 53 random bits.
double Sampler::random() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

}  // namespace reformer
