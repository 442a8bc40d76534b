// Int8FeedForwardAdd: its declaration, and how operands become the kernel's arguments.
#pragma once

#include "int8_feed_forward_add/kernel.h"
#include "weight_axes.h"

namespace reformer {

// For feed_forward_arguments.
struct Int8FeedForwardAdd {
  static constexpr const char* kName = "Int8FeedForwardAdd";
  static constexpr const char* kTorchName = "int8_feed_forward_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"up_weight", Type::u8, {"up_panels", "up_quads", "panel", "quad"}},
      {"up_scale", Type::f32, {"feed_forward"}},
      {"up_bias", Type::model, {"feed_forward"}},
      {"down_weight", Type::u8, {"down_panels", "down_quads", "panel", "quad"}},
      {"down_scale", Type::f32, {"hidden"}},
      {"down_bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  static constexpr auto* kKernel = &int8_feed_forward_add;

  static void set_weights(FeedForwardAddArguments& a, Axes& axes, const void* const* inputs) {
    check_quads(axes, kTorchName, "up_quads", "hidden");
    check_quads(axes, kTorchName, "down_quads", "feed_forward");
    a.up_weight = inputs[0];
    a.up_scale = static_cast<const float*>(inputs[1]);
    a.up_bias = inputs[2];
    a.down_weight = inputs[3];
    a.down_scale = static_cast<const float*>(inputs[4]);
    a.down_bias = inputs[5];
  }
};

}  // namespace reformer
