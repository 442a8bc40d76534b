#include "int4_feed_forward_add/kernel.h"

#include "feed_forward.h"
#include "int4_panels.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

// Weights of 4 bits. The rows that are multiplied with them are rounded to integers.
struct Int4Weights {
  using Rows = Int8Segments<RowNumber>;
  using Panels = Int4Panels<RowNumber>;
  static constexpr bool kHaveScales = true;

  static Panels panels(const void* weight, const std::int8_t* step, std::int64_t depth) {
    return {static_cast<const std::uint8_t*>(weight), step, depth};
  }
};

template <typename Stored>
void run(const FeedForwardAddArguments& a, const Parallel& parallel) {
  run_feed_forward<Stored, Int4Weights>(a, parallel);
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

REFORMER_DISPATCH_INT8(int4_feed_forward_add)

void int4_feed_forward_add(const FeedForwardAddArguments& arguments, const Parallel& parallel) {
  active_int4_feed_forward_add()(arguments, parallel);
}

}  // namespace reformer
#endif
