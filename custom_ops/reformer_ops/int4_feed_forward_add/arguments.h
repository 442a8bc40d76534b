// Int4FeedForwardAdd: its declaration, and how operands become the kernel's arguments.
#pragma once

#include "int4_feed_forward_add/kernel.h"
#include "weight_axes.h"

namespace reformer {

// For feed_forward_arguments.
struct Int4FeedForwardAdd {
  static constexpr const char* kName = "Int4FeedForwardAdd";
  static constexpr const char* kTorchName = "int4_feed_forward_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"up_weight", Type::u8, {"up_panels", "up_octets", "panel", "quad"}},
      {"up_step", Type::i8, {"up_panels", "up_steps", "panel"}},
      {"up_scale", Type::f32, {"feed_forward"}},
      {"up_bias", Type::model, {"feed_forward"}},
      {"down_weight", Type::u8, {"down_panels", "down_octets", "panel", "quad"}},
      {"down_step", Type::i8, {"down_panels", "down_steps", "panel"}},
      {"down_scale", Type::f32, {"hidden"}},
      {"down_bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  static constexpr auto* kKernel = &int4_feed_forward_add;

  static void set_weights(FeedForwardAddArguments& a, Axes& axes, const void* const* inputs) {
    check_octets(axes, kTorchName, "up_octets", "up_steps", "hidden");
    check_octets(axes, kTorchName, "down_octets", "down_steps", "feed_forward");
    a.up_weight = inputs[0];
    a.up_step = static_cast<const std::int8_t*>(inputs[1]);
    a.up_scale = static_cast<const float*>(inputs[2]);
    a.up_bias = inputs[3];
    a.down_weight = inputs[4];
    a.down_step = static_cast<const std::int8_t*>(inputs[5]);
    a.down_scale = static_cast<const float*>(inputs[6]);
    a.down_bias = inputs[7];
  }
};

}  // namespace reformer
