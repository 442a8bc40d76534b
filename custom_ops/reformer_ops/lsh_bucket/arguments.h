// The declaration of LshBucket, and the conversion of its operands to the kernel's arguments, for
// all bindings.
#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "lsh_bucket/kernel.h"
#include "operands.h"

namespace reformer {

// Throws Error if the rotations do not have the columns that `factors` need.
inline void check_columns(Axes& axes, const std::vector<std::int64_t>& factors) {
  const std::int64_t columns = std::accumulate(factors.begin(), factors.end(), std::int64_t{0}) / 2;
  if (axes["half_factors"] != columns)
    throw Error(
        "lsh_bucket takes rotations with " + std::to_string(columns) + " columns for the factors " +
        text_of(factors) + "; got shape " +
        text_of({axes["heads"], axes["head_dim"], axes["num_hashes"], axes["half_factors"]}));
}

struct LshBucket {
  static constexpr const char* kName = "LshBucket";
  static constexpr const char* kTorchName = "lsh_bucket";
  static constexpr Operand kInputs[] = {
      {"query", Type::model, {"batch", "length", "heads", "head_dim"}},
      {"rotations", Type::f32, {"heads", "head_dim", "num_hashes", "half_factors"}},
      {"mask", Type::boolean, {"batch", "length"}},
  };
  static constexpr Operand kOutputs[] = {
      {"buckets", Type::i32, {"batch", "heads", "num_hashes", "length"}}};
  static constexpr Attribute kAttributes[] = {{"factors", Attribute::Kind::integers}};

  // `inputs` in the order of kInputs. `factors` must outlive the arguments. Throws Error for
  // invalid factors, or if they do not fit the axes.
  static LshBucketArguments arguments(Axes& axes, const void* const* inputs,
                                      const std::vector<std::int64_t>& factors) {
    bucket_count(factors.data(), factors.size());  // the sum of valid factors does not overflow
    check_columns(axes, factors);
    LshBucketArguments arguments{};
    arguments.query = inputs[0];
    arguments.rotations = static_cast<const float*>(inputs[1]);
    arguments.mask = static_cast<const std::uint8_t*>(inputs[2]);
    arguments.batch = axes["batch"];
    arguments.length = axes["length"];
    arguments.heads = axes["heads"];
    arguments.head_dim = axes["head_dim"];
    arguments.num_hashes = axes["num_hashes"];
    arguments.factors = factors.data();
    arguments.num_factors = factors.size();
    return arguments;
  }
};

}  // namespace reformer
