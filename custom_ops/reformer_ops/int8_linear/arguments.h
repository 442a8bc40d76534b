// Int8Linear: its declaration, and how operands become the kernel's arguments.
#pragma once

#include <string>

#include "int8_linear/kernel.h"
#include "operands.h"

namespace reformer {

struct Int8Linear {
  static constexpr const char* kName = "Int8Linear";
  static constexpr const char* kTorchName = "int8_linear";
  static constexpr Operand kInputs[] = {
      {"input", Type::model, {"batch", "length", "depth"}},
      {"weight", Type::u8, {"panels", "quads", "panel", "quad"}},
      {"scale", Type::f32, {"columns"}},
      {"bias", Type::model, {"columns"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "columns"}},
  };

  // All but the output and the type. `inputs` are in the order of kInputs. Throws Error if the
  // weight has other panels, or is of another size.
  static Int8LinearArguments arguments(Axes& axes, const void* const* inputs) {
    constexpr std::int64_t kPanel = 16, kQuad = 4;
    const auto text = [&](const char* axis) { return std::to_string(axes[axis]); };
    if (axes["panel"] != kPanel || axes["quad"] != kQuad)
      throw Error("int8_linear takes weights in panels of 16 columns and 4 lines; got panels of " +
                  text("panel") + " and " + text("quad"));
    const std::int64_t depth = axes["quads"] * kQuad, columns = axes["panels"] * kPanel;
    if (axes["depth"] != depth || axes["columns"] != columns)
      throw Error("int8_linear takes an input of depth " + std::to_string(depth) + " and " +
                  std::to_string(columns) + " scales for a weight of " + text("panels") + " x " +
                  text("quads") + " panels; got depth " + text("depth") + " and " +
                  text("columns") + " scales");
    Int8LinearArguments a{};
    a.input = inputs[0];
    a.weight = static_cast<const std::uint8_t*>(inputs[1]);
    a.scale = static_cast<const float*>(inputs[2]);
    a.bias = inputs[3];
    a.rows = axes["batch"] * axes["length"];
    a.depth = depth;
    a.columns = columns;
    return a;
  }
};

}  // namespace reformer
