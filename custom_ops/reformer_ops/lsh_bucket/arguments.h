// From shapes and attributes to LshBucketArguments: what all bindings of LshBucket share.
#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "lsh_bucket/kernel.h"
#include "operands.h"

namespace reformer {

// Throws Error where the rotations, whose axes are known, have not the columns that `factors` want.
inline void check_columns(Axes& axes, const std::vector<std::int64_t>& factors) {
  const std::int64_t columns = std::accumulate(factors.begin(), factors.end(), std::int64_t{0}) / 2;
  if (axes["half_factors"] != columns)
    throw Error(
        "lsh_bucket takes rotations with " + std::to_string(columns) + " columns for the factors " +
        text_of(factors) + "; got shape " +
        text_of({axes["heads"], axes["head_dim"], axes["num_hashes"], axes["half_factors"]}));
}

// Fills in the sizes; `factors` must outlive the arguments. Throws Error where the shapes do not
// fit each other or the factors.
inline void set_sizes(LshBucketArguments& arguments, const Shape& query, const Shape& rotations,
                      const Shape& mask, const std::vector<std::int64_t>& factors) {
  Axes axes("lsh_bucket");
  axes.check("query", {"batch", "length", "heads", "head_dim"}, query);
  axes.check("rotations", {"heads", "head_dim", "num_hashes", "half_factors"}, rotations);
  axes.check("mask", {"batch", "length"}, mask);
  bucket_count(factors.data(), factors.size());  // that their sum makes sense
  check_columns(axes, factors);
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  arguments.num_hashes = axes["num_hashes"];
  arguments.factors = factors.data();
  arguments.num_factors = factors.size();
}

}  // namespace reformer
