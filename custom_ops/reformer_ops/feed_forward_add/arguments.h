// FeedForwardAdd: its declaration, and how operands become the kernel's arguments.
#pragma once

#include "feed_forward_add/kernel.h"
#include "weight_axes.h"

namespace reformer {

// For feed_forward_arguments.
struct FeedForwardAdd {
  static constexpr const char* kName = "FeedForwardAdd";
  static constexpr const char* kTorchName = "feed_forward_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"up_weight", Type::model, {"up_panels", "hidden", "panel"}},
      {"up_bias", Type::model, {"feed_forward"}},
      {"down_weight", Type::model, {"down_panels", "feed_forward", "panel"}},
      {"down_bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  static constexpr auto* kKernel = &feed_forward_add;

  static void set_weights(FeedForwardAddArguments& a, Axes&, const void* const* inputs) {
    a.up_weight = inputs[0];
    a.up_bias = inputs[1];
    a.down_weight = inputs[2];
    a.down_bias = inputs[3];
  }
};

}  // namespace reformer
