// FeedForwardAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include "ort_feed_forward.h"

namespace reformer::ort {
namespace {

struct FeedForwardAdd {
  static constexpr const char* kName = "FeedForwardAdd";
  static constexpr const char* kTorchName = "feed_forward_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"up_weight", Type::model, {"up_panels", "hidden", "panel"}},
      {"up_bias", Type::model, {"feed_forward"}},
      {"down_weight", Type::model, {"down_panels", "feed_forward", "panel"}},
      {"down_bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  // The output may be in the memory of the residual.
  static constexpr int kInPlace = 0;

  static constexpr auto* kKernel = &feed_forward_add;

  static void set_weights(FeedForwardAddArguments& a, Axes&, const void* const* inputs) {
    a.up_weight = inputs[0];
    a.up_bias = inputs[1];
    a.down_weight = inputs[2];
    a.down_bias = inputs[3];
  }
};

const CpuRegistration<FeedForwardNode<FeedForwardAdd>, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
