// Int8FeedForwardAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include <string>

#include "int8_feed_forward_add/kernel.h"
#include "ort_panels.h"

namespace reformer::ort {
namespace {

class Int8FeedForwardAdd {
 public:
  static constexpr const char* kName = "Int8FeedForwardAdd";
  static constexpr const char* kTorchName = "int8_feed_forward_add";
  static constexpr Operand kInputs[] = {
      {"residual", Type::model, {"batch", "length", "hidden"}},
      {"input", Type::model, {"batch", "length", "hidden"}},
      {"norm_weight", Type::model, {"hidden"}},
      {"norm_bias", Type::model, {"hidden"}},
      {"up_weight", Type::u8, {"up_panels", "up_quads", "panel", "quad"}},
      {"up_scale", Type::f32, {"feed_forward"}},
      {"up_bias", Type::model, {"feed_forward"}},
      {"down_weight", Type::u8, {"down_panels", "down_quads", "panel", "quad"}},
      {"down_scale", Type::f32, {"hidden"}},
      {"down_bias", Type::model, {"hidden"}},
  };
  static constexpr Operand kOutputs[] = {
      {"output", Type::model, {"batch", "length", "hidden"}},
  };
  // The output may be in the memory of the residual.
  static constexpr int kInPlace = 0;

  explicit Int8FeedForwardAdd(const Ort::ConstKernelInfo& node)
      : epsilon_(attribute<float>(node, "epsilon")),
        activation_(activation_from(attribute<std::string>(node, "activation"))) {}

  void compute(const Ort::KernelContext& context, DType dtype) const {
    Axes axes = check_inputs<Int8FeedForwardAdd>(context);
    check_columns(axes, kTorchName, "up_panels", "feed_forward");
    check_columns(axes, kTorchName, "down_panels", "hidden");
    check_quads(axes, kTorchName, "up_quads", "hidden");
    check_quads(axes, kTorchName, "down_quads", "feed_forward");
    const auto inputs = raw_inputs<Int8FeedForwardAdd>(context);
    FeedForwardAddArguments a{};
    a.residual = inputs[0];
    a.input = inputs[1];
    a.norm_weight = inputs[2];
    a.norm_bias = inputs[3];
    a.up_weight = inputs[4];
    a.up_scale = static_cast<const float*>(inputs[5]);
    a.up_bias = inputs[6];
    a.down_weight = inputs[7];
    a.down_scale = static_cast<const float*>(inputs[8]);
    a.down_bias = inputs[9];
    const std::int64_t batch = axes["batch"], length = axes["length"];
    a.hidden = axes["hidden"];
    a.feed_forward = axes["feed_forward"];
    a.rows = batch * length;
    a.epsilon = epsilon_;
    a.activation = activation_;
    a.dtype = dtype;
    a.output = context.GetOutput(0, {batch, length, a.hidden}).GetTensorMutableRawData();
    int8_feed_forward_add(a, parallel_of(context));
  }

 private:
  float epsilon_;
  Activation activation_;
};

const CpuRegistration<Int8FeedForwardAdd, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
