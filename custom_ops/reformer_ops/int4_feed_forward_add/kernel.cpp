#include "int4_feed_forward_add/kernel.h"

#include "feed_forward.h"
#include "int4_panels.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// Weights of 4 bits. The rows that are multiplied with them are rounded to integers.
template <typename Number>
struct Int4Weights {
  using Rows = Int8Segments<Number>;
  using Panels = Int4Panels<Number>;
  static constexpr bool kHaveScales = true;

  static Panels panels(const void* weight, const std::int8_t* step, std::int64_t depth) {
    return {static_cast<const std::uint8_t*>(weight), step, depth};
  }
};

template <typename Stored>
void run(const FeedForwardAddArguments& a, const Parallel& parallel) {
#ifdef REFORMER_INT8_DOT
  if (has_int8_dot()) return run_feed_forward<Stored, Int4Weights<std::int8_t>>(a, parallel);
#endif
  run_feed_forward<Stored, Int4Weights<float>>(a, parallel);
}

}  // namespace

void int4_feed_forward_add(const FeedForwardAddArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(int4_feed_forward_add)

void int4_feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel) {
  active_int4_feed_forward_add()(arguments, parallel);
}

}  // namespace reformer
#endif
