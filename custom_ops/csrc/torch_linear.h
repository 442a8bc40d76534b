// The torch operators of linear layers, which return one tensor [batch, length, columns].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "feed_forward_arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {

// Runs an operator on the CPU. arguments(axes, pointers) returns the kernel's arguments without
// output and type, and columns(arguments) the number of columns of the output.
template <typename Declaration, std::size_t Count, typename Read, typename Columns, typename Kernel>
Tensor run_linear(const std::array<Tensor, Count>& given, Read&& arguments, Columns&& columns,
                  Kernel&& kernel) {
  return checked([&] {
    DeclaredOperands operands(Declaration::kTorchName, Declaration::kInputs, given);
    const auto readable = operands.readable();
    Axes& axes = operands.axes();
    auto a = arguments(axes, readable.pointers.data());
    const Tensor output =
        torch::stable::new_empty(readable.tensors[0], {axes["batch"], axes["length"], columns(a)});
    a.dtype = operands.model().dtype();
    a.output = output.mutable_data_ptr();
    kernel(a, threads());
    return operands.model().returned(output);
  });
}

// Runs a feed-forward; Declaration is as in ort_feed_forward.h.
template <typename Declaration, std::size_t Count>
Tensor run_feed_forward(const std::array<Tensor, Count>& given, double epsilon,
                        const std::string& activation) {
  return run_linear<Declaration>(
      given,
      [&](Axes& axes, const void* const* inputs) {
        return feed_forward_arguments<Declaration>(axes, inputs, static_cast<float>(epsilon),
                                                   activation_from(activation));
      },
      [](const FeedForwardAddArguments& a) { return a.hidden; }, Declaration::kKernel);
}

}  // namespace reformer::torch_binding
