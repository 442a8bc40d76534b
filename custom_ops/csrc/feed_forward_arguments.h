// How operands become the arguments of the feed-forward, for weights of every type.
#pragma once

#include <string>

#include "feed_forward_add/kernel.h"
#include "weight_axes.h"

namespace reformer {

// All but the output and the type. Declaration is an operator, and `inputs` are in the order of its
// kInputs. Its set_weights(arguments, axes, inputs) sets the weights and biases from the inputs
// after the norm; it throws Error if they do not fit.
template <typename Declaration>
FeedForwardAddArguments feed_forward_arguments(Axes& axes, const void* const* inputs, float epsilon,
                                               Activation activation) {
  check_columns(axes, Declaration::kTorchName, "up_panels", "feed_forward");
  check_columns(axes, Declaration::kTorchName, "down_panels", "hidden");
  FeedForwardAddArguments a{};
  a.residual = inputs[0];
  a.input = inputs[1];
  a.norm_weight = inputs[2];
  a.norm_bias = inputs[3];
  Declaration::set_weights(a, axes, inputs + 4);
  a.rows = axes["batch"] * axes["length"];
  a.hidden = axes["hidden"];
  a.feed_forward = axes["feed_forward"];
  a.epsilon = epsilon;
  a.activation = activation;
  return a;
}

}  // namespace reformer
