// torch.ops.reformer.feed_forward_add on the CPU.
#include "feed_forward_add/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor feed_forward_add(const Tensor& residual, const Tensor& input, const Tensor& norm_weight,
                        const Tensor& norm_bias, const Tensor& up_weight, const Tensor& up_bias,
                        const Tensor& down_weight, const Tensor& down_bias, double epsilon,
                        std::string activation) {
  return run_feed_forward<FeedForwardAdd>(std::array{residual, input, norm_weight, norm_bias,
                                                     up_weight, up_bias, down_weight, down_bias},
                                          epsilon, activation);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "feed_forward_add(Tensor residual, Tensor input, Tensor norm_weight, Tensor norm_bias, "
         "Tensor up_weight, Tensor up_bias, Tensor down_weight, Tensor down_bias, float epsilon, "
         "str activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("feed_forward_add", TORCH_BOX(&feed_forward_add));
}

}  // namespace
}  // namespace reformer::torch_binding
