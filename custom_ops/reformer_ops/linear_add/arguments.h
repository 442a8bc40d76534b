// LinearAdd: its declaration, and how operands become the kernel's arguments.
#pragma once

#include "linear_add/kernel.h"
#include "weight_axes.h"

namespace reformer {

struct LinearAdd {
  static constexpr const char* kName = "LinearAdd";
  static constexpr const char* kTorchName = "linear_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "depth"}},
      {"weight", Type::model, {"panels", "depth", "panel"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };

  // All but the output and the type. `inputs` are in the order of kInputs. Throws Error if the
  // weight has other panels, or is of another size.
  static LinearAddArguments arguments(Axes& axes, const void* const* inputs) {
    check_columns(axes, kTorchName, "panels", "hidden");
    LinearAddArguments a{};
    a.residual = inputs[0];
    a.input = inputs[1];
    a.weight = inputs[2];
    a.rows = axes["batch"] * axes["length"];
    a.depth = axes["depth"];
    a.hidden = axes["hidden"];
    return a;
  }
};

}  // namespace reformer
