// FeedForwardAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include "feed_forward_add/arguments.h"
#include "ort_feed_forward.h"

namespace reformer::ort {
namespace {

const CpuRegistration<FeedForwardNode<FeedForwardAdd>, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
