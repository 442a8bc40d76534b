// Chooses the next token from its scores, like reformer_export/generation/sampling.py.
#pragma once

#include <random>
#include <set>

#include "reformer/generator.h"

namespace reformer {

using Scores = std::vector<double>;  // [vocab_size]

// Chooses the tokens of one sequence.
class Sampler {
 public:
  // The random numbers depend on the seed and on `row`, not on the other sequences.
  Sampler(const GenerationOptions& options, const TokenIds& prompt, std::size_t row);

  // Chooses the next token and adds it to the sequence. Among equal scores, the token with the
  // lower id ranks first. Throws Error (inference) if it cannot draw because the highest score is
  // not finite.
  std::int64_t next(Scores scores);

 private:
  std::int64_t chosen(Scores& scores);
  double random();

  const GenerationOptions& options_;
  bool greedy_;
  std::set<std::int64_t> used_;
  std::mt19937_64 engine_;
};

}  // namespace reformer
