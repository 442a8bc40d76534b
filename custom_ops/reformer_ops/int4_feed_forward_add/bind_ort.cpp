// Int4FeedForwardAdd for ONNX Runtime, on CPUs only. On GPUs, the runtime runs the function in
// model.onnx.
#include "int4_feed_forward_add/arguments.h"
#include "ort_feed_forward.h"

namespace reformer::ort {
namespace {

const CpuRegistration<FeedForwardNode<Int4FeedForwardAdd>, Sessions::without_gpu> registration;

}  // namespace
}  // namespace reformer::ort
