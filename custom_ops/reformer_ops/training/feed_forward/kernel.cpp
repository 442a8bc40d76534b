#include "training/feed_forward/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "training/feed_forward/kernel_isa.h"

namespace reformer {
namespace {

void check_sizes(const FeedForwardArguments& arguments) {
  for (std::int64_t size : {arguments.hidden, arguments.feed_forward})
    if (size % 16 != 0)
      throw Error("feed_forward takes sizes that are multiples of 16; got hidden " +
                  std::to_string(arguments.hidden) + ", feed_forward " +
                  std::to_string(arguments.feed_forward));
}

}  // namespace

void feed_forward(const FeedForwardArguments& arguments, float* output, const Parallel& parallel) {
  check_sizes(arguments);
  REFORMER_FOR_ISA(feed_forward)(arguments, output, parallel);
}

void feed_forward_backward(const FeedForwardArguments& arguments,
                           const FeedForwardGradients& gradients, float* output,
                           const Parallel& parallel) {
  check_sizes(arguments);
  REFORMER_FOR_ISA(feed_forward_backward)(arguments, gradients, output, parallel);
}

}  // namespace reformer
