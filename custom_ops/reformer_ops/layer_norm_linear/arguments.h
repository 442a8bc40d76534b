// LayerNormLinear: its declaration, and how operands become the kernel's arguments.
#pragma once

#include "layer_norm_linear/kernel.h"
#include "weight_axes.h"

namespace reformer {

struct LayerNormLinear {
  static constexpr const char* kName = "LayerNormLinear";
  static constexpr const char* kTorchName = "layer_norm_linear";
  static constexpr Operand kInputs[] = {
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"weight", Type::model, {"panels", "hidden", "panel"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "columns"}},
  };

  // All but the output and the type. `inputs` are in the order of kInputs. Throws Error if the
  // weight has other panels.
  static LayerNormLinearArguments arguments(Axes& axes, const void* const* inputs, float epsilon) {
    LayerNormLinearArguments a{};
    a.input = inputs[0];
    a.norm_weight = inputs[1];
    a.norm_bias = inputs[2];
    a.weight = inputs[3];
    a.rows = axes["batch"] * axes["length"];
    a.hidden = axes["hidden"];
    a.columns = columns_of(axes, kTorchName, "panels");
    a.epsilon = epsilon;
    return a;
  }
};

}  // namespace reformer
