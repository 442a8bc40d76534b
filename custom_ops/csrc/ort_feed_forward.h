// The nodes of the feed-forward, for weights of every type.
#pragma once

#include <string>

#include "feed_forward_arguments.h"
#include "ort_cpu.h"

namespace reformer::ort {

// Declaration is an operator that feed_forward_arguments takes. Its kKernel runs it.
template <typename Declaration>
class FeedForwardNode : public Declaration {
 public:
  // The output may be in the memory of the residual.
  static constexpr int kInPlace = 0;

  explicit FeedForwardNode(const Ort::ConstKernelInfo& node)
      : epsilon_(attribute<float>(node, "epsilon")),
        activation_(activation_from(attribute<std::string>(node, "activation"))) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Declaration>(context);
    FeedForwardAddArguments a = feed_forward_arguments<Declaration>(
        axes, raw_inputs<Declaration>(context).data(), epsilon_, activation_);
    a.dtype = dtype;
    a.output =
        context.GetOutput(0, {axes["batch"], axes["length"], a.hidden}).GetTensorMutableRawData();
    Declaration::kKernel(a, parallel_of(context));
  }

 private:
  float epsilon_;
  Activation activation_;
};

}  // namespace reformer::ort
