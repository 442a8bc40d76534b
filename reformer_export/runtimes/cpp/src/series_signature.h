// The part of Signature::check for models that take series of numbers.
#pragma once

#include "reformer/artifact.h"

namespace reformer {

constexpr const char* kSeries = "series";
constexpr const char* kTimeFeatures = "time_features";

// The inputs as float32, in the order of the signature. All their names are known. Throws Error
// (input).
NamedTensors checked_series(const Signature& signature, const NamedTensors& given);

}  // namespace reformer
