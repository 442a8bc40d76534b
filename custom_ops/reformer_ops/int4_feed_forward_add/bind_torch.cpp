// torch.ops.reformer.int4_feed_forward_add on the CPU.
#include "int4_feed_forward_add/arguments.h"
#include "torch_linear.h"

namespace reformer::torch_binding {
namespace {

Tensor int4_feed_forward_add(const Tensor& residual, const Tensor& input, const Tensor& norm_weight,
                             const Tensor& norm_bias, const Tensor& up_weight,
                             const Tensor& up_step, const Tensor& up_scale, const Tensor& up_bias,
                             const Tensor& down_weight, const Tensor& down_step,
                             const Tensor& down_scale, const Tensor& down_bias, double epsilon,
                             std::string activation) {
  return run_feed_forward<Int4FeedForwardAdd>(
      std::array{residual, input, norm_weight, norm_bias, up_weight, up_step, up_scale, up_bias,
                 down_weight, down_step, down_scale, down_bias},
      epsilon, activation);
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "int4_feed_forward_add(Tensor residual, Tensor input, Tensor norm_weight, "
         "Tensor norm_bias, Tensor up_weight, Tensor up_step, Tensor up_scale, Tensor up_bias, "
         "Tensor down_weight, Tensor down_step, Tensor down_scale, Tensor down_bias, "
         "float epsilon, str activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("int4_feed_forward_add", TORCH_BOX(&int4_feed_forward_add));
}

}  // namespace
}  // namespace reformer::torch_binding
