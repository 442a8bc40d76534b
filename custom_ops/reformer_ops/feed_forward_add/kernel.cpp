#include "feed_forward_add/kernel.h"

#include "feed_forward.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {

void feed_forward_add(const FeedForwardAddArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run_feed_forward<float, ModelWeights<float>>(a, parallel);
  else
    run_feed_forward<Half, ModelWeights<Half>>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(feed_forward_add)

void feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel) {
  active_feed_forward_add()(arguments, parallel);
}

}  // namespace reformer
#endif
