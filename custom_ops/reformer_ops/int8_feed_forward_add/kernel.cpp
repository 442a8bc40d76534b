#include "int8_feed_forward_add/kernel.h"

#include "feed_forward.h"
#include "int8_panels.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// Weights of 8 bits. The rows that are multiplied with them are rounded to integers.
template <typename Number>
struct Int8Weights {
  using Rows = Int8Segments<Number>;
  using Panels = Int8Panels<Number>;
  static constexpr bool kHaveScales = true;

  static Panels panels(const void* weight, const std::int8_t*, std::int64_t depth) {
    return {static_cast<const std::uint8_t*>(weight), depth};
  }
};

template <typename Stored>
void run(const FeedForwardAddArguments& a, const Parallel& parallel) {
#ifdef REFORMER_INT8_DOT
  if (has_int8_dot()) return run_feed_forward<Stored, Int8Weights<std::int8_t>>(a, parallel);
#endif
  run_feed_forward<Stored, Int8Weights<float>>(a, parallel);
}

}  // namespace

void int8_feed_forward_add(const FeedForwardAddArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(int8_feed_forward_add)

void int8_feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel) {
  active_int8_feed_forward_add()(arguments, parallel);
}

}  // namespace reformer
#endif
