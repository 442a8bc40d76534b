// Int4Linear: its declaration, and how operands become the kernel's arguments.
#pragma once

#include <string>

#include "int4_linear/kernel.h"
#include "operands.h"

namespace reformer {

struct Int4Linear {
  static constexpr const char* kName = "Int4Linear";
  static constexpr const char* kTorchName = "int4_linear";
  static constexpr Operand kInputs[] = {
      {"input", Type::model, {"batch", "length", "depth"}},
      {"weight", Type::u8, {"panels", "octets", "panel", "quad"}},
      {"step", Type::i8, {"panels", "steps", "panel"}},
      {"scale", Type::f32, {"columns"}},
      {"bias", Type::model, {"columns"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "columns"}},
  };

  // All but the output and the type. `inputs` are in the order of kInputs. Throws Error if the
  // weight has other panels, or is of another size.
  static Int4LinearArguments arguments(Axes& axes, const void* const* inputs) {
    constexpr std::int64_t kPanel = 16, kQuad = 4, kOctet = 8, kBlock = 32;
    const auto text = [&](const char* axis) { return std::to_string(axes[axis]); };
    if (axes["panel"] != kPanel || axes["quad"] != kQuad)
      throw Error("int4_linear takes weights in panels of 16 columns and 4 bytes; got panels of " +
                  text("panel") + " and " + text("quad"));
    const std::int64_t depth = axes["octets"] * kOctet, columns = axes["panels"] * kPanel;
    if (axes["steps"] * kBlock != depth)
      throw Error("int4_linear takes a step for each 32 lines; got " + text("steps") +
                  " steps for " + std::to_string(depth) + " lines");
    if (axes["depth"] != depth || axes["columns"] != columns)
      throw Error("int4_linear takes an input of depth " + std::to_string(depth) + " and " +
                  std::to_string(columns) + " scales for a weight of " + text("panels") + " x " +
                  text("octets") + " panels; got depth " + text("depth") + " and " +
                  text("columns") + " scales");
    Int4LinearArguments a{};
    a.input = inputs[0];
    a.weight = static_cast<const std::uint8_t*>(inputs[1]);
    a.step = static_cast<const std::int8_t*>(inputs[2]);
    a.scale = static_cast<const float*>(inputs[3]);
    a.bias = inputs[4];
    a.rows = axes["batch"] * axes["length"];
    a.depth = depth;
    a.columns = columns;
    return a;
  }
};

}  // namespace reformer
