// What the bindings of both attentions' gradients share.
#pragma once

#include "attention_backward.h"
#include "operands.h"

namespace reformer {

// Arguments with the sizes filled in, from the axes of what the attention itself takes and the
// operands that its gradients take besides. Throws Error where the shapes do not fit each other.
inline AttentionBackwardArguments attention_backward_arguments(Axes axes, const Shape& output,
                                                               const Shape& lse,
                                                               const Shape& gradient) {
  axes.check("output", {"batch", "length", "heads", "head_dim"}, output);
  axes.check("lse", {"batch", "heads", "length"}, lse);
  axes.check("gradient", {"batch", "length", "heads", "head_dim"}, gradient);
  AttentionBackwardArguments arguments{};
  arguments.batch = axes["batch"];
  arguments.length = axes["length"];
  arguments.heads = axes["heads"];
  arguments.head_dim = axes["head_dim"];
  return arguments;
}

}  // namespace reformer
