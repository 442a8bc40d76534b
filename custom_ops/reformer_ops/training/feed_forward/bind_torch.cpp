// torch.ops.reformer.feed_forward and its gradients on the CPU.
#include <cstdint>
#include <tuple>
#include <vector>

#include "torch_binding.h"
#include "training/feed_forward/kernel.h"

namespace reformer::torch_binding {
namespace {

// The arguments, and the operands that they point to.
struct FeedForward {
  FloatOperands operands;
  FeedForwardArguments arguments{};

  FeedForward(const char* op, const Tensor& input, const Tensor& norm_weight,
              const Tensor& norm_bias, const Tensor& up_weight, const Tensor& up_bias,
              const Tensor& down_weight, const Tensor& down_bias, const Tensor& seed,
              double epsilon, double dropout)
      : operands(op) {
    FeedForwardArguments& a = arguments;
    a.input = operands.read("input", {"rows", "hidden"}, input);
    a.norm_weight = operands.read("norm_weight", {"hidden"}, norm_weight);
    a.norm_bias = operands.read("norm_bias", {"hidden"}, norm_bias);
    a.up_weight = operands.read("up_weight", {"feed_forward", "hidden"}, up_weight);
    a.up_bias = operands.read("up_bias", {"feed_forward"}, up_bias);
    a.down_weight = operands.read("down_weight", {"hidden", "feed_forward"}, down_weight);
    a.down_bias = operands.read("down_bias", {"hidden"}, down_bias);
    a.epsilon = static_cast<float>(epsilon);
    a.dropout = dropout_from(op, seed, dropout);
    a.rows = operands["rows"];
    a.hidden = operands["hidden"];
    a.feed_forward = operands["feed_forward"];
  }
};

Tensor feed_forward(const Tensor& input, const Tensor& norm_weight, const Tensor& norm_bias,
                    const Tensor& up_weight, const Tensor& up_bias, const Tensor& down_weight,
                    const Tensor& down_bias, const Tensor& seed, double epsilon, double dropout) {
  return checked([&] {
    const FeedForward call("feed_forward", input, norm_weight, norm_bias, up_weight, up_bias,
                           down_weight, down_bias, seed, epsilon, dropout);
    const FeedForwardArguments& a = call.arguments;
    const Tensor output = torch::stable::new_empty(input, {a.rows, a.hidden});
    reformer::feed_forward(a, writable(output), threads());
    return output;
  });
}

// Returns the output (an empty tensor unless `with_output`), then the gradients of the operands in
// their order.
std::vector<Tensor> feed_forward_backward(const Tensor& input, const Tensor& norm_weight,
                                          const Tensor& norm_bias, const Tensor& up_weight,
                                          const Tensor& up_bias, const Tensor& down_weight,
                                          const Tensor& down_bias, const Tensor& seed,
                                          const Tensor& gradient, double epsilon, double dropout,
                                          bool with_output) {
  return checked([&] {
    FeedForward call("feed_forward_backward", input, norm_weight, norm_bias, up_weight, up_bias,
                     down_weight, down_bias, seed, epsilon, dropout);
    const FeedForwardArguments& a = call.arguments;
    FeedForwardGradients found{};
    found.output = call.operands.read("gradient", {"rows", "hidden"}, gradient);
    std::vector<Tensor> results;
    const auto made = [&](std::initializer_list<std::int64_t> shape) {
      results.push_back(torch::stable::new_empty(input, shape));
      return writable(results.back());
    };
    float* output = with_output ? made({a.rows, a.hidden}) : (made({0}), nullptr);
    found.input = made({a.rows, a.hidden});
    found.norm_weight = made({a.hidden});
    found.norm_bias = made({a.hidden});
    found.up_weight = made({a.feed_forward, a.hidden});
    found.up_bias = made({a.feed_forward});
    found.down_weight = made({a.hidden, a.feed_forward});
    found.down_bias = made({a.hidden});
    reformer::feed_forward_backward(a, found, output, threads());
    return results;
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "feed_forward(Tensor input, Tensor norm_weight, Tensor norm_bias, Tensor up_weight, "
         "Tensor up_bias, Tensor down_weight, Tensor down_bias, Tensor seed, float epsilon, "
         "float dropout) -> Tensor");
  define(library,
         "feed_forward_backward(Tensor input, Tensor norm_weight, Tensor norm_bias, "
         "Tensor up_weight, Tensor up_bias, Tensor down_weight, Tensor down_bias, Tensor seed, "
         "Tensor gradient, float epsilon, float dropout, bool with_output) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("feed_forward", TORCH_BOX(&feed_forward));
  library.impl("feed_forward_backward", TORCH_BOX(&feed_forward_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
