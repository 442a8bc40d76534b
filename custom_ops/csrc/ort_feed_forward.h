// The nodes of the feed-forward, for weights of every type.
#pragma once

#include <cstdint>
#include <string>

#include "feed_forward_add/kernel.h"
#include "ort_panels.h"

namespace reformer::ort {

// Declaration is an operator. Its set_weights(arguments, axes, inputs) sets the weights and biases
// from the inputs after the norm; it throws Error if they do not fit. Its kKernel runs the
// operator.
template <typename Declaration>
class FeedForwardNode : public Declaration {
 public:
  explicit FeedForwardNode(const Ort::ConstKernelInfo& node)
      : epsilon_(attribute<float>(node, "epsilon")),
        activation_(activation_from(attribute<std::string>(node, "activation"))) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Declaration>(context);
    check_columns(axes, Declaration::kTorchName, "up_panels", "feed_forward");
    check_columns(axes, Declaration::kTorchName, "down_panels", "hidden");
    const auto inputs = raw_inputs<Declaration>(context);
    FeedForwardAddArguments a{};
    a.residual = inputs[0];
    a.input = inputs[1];
    a.norm_weight = inputs[2];
    a.norm_bias = inputs[3];
    Declaration::set_weights(a, axes, inputs.data() + 4);
    const std::int64_t batch = axes["batch"], length = axes["length"];
    a.hidden = axes["hidden"];
    a.feed_forward = axes["feed_forward"];
    a.rows = batch * length;
    a.epsilon = epsilon_;
    a.activation = activation_;
    a.dtype = dtype;
    a.output = context.GetOutput(0, {batch, length, a.hidden}).GetTensorMutableRawData();
    Declaration::kKernel(a, parallel_of(context));
  }

 private:
  float epsilon_;
  Activation activation_;
};

}  // namespace reformer::ort
