// Scores of masked keys and the epsilon of the key norm. attention_masks.py has the same numbers.
#pragma once

namespace reformer {

constexpr float kMasked = -1e9f;          // of a key that is padding or lies in the future
constexpr float kSelf = -1e5f;            // of the query's own position under shared QK
constexpr float kAbsent = -3e38f;         // of a key that does not exist: its weight is exactly 0
constexpr float kKeyNormEpsilon = 1e-6f;  // added to the mean square of a key under shared QK

}  // namespace reformer
