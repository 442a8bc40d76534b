// Int4FeedForwardAdd on the CPU. docs/ops.md defines the numbers.
#pragma once

#include "feed_forward_add/kernel.h"

namespace reformer {

// up_weight: uint8 [feed_forward / 16, hidden / 8, 16, 4]; down_weight: uint8 [hidden / 16,
// feed_forward / 8, 16, 4]. Both have steps and scales. Results do not depend on the number of
// threads.
void int4_feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel);

}  // namespace reformer
