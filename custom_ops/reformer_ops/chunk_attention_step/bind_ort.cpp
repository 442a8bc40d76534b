// ChunkAttentionStep for ONNX Runtime.
#include "chunk_attention_step/arguments.h"
#include "ort_step.h"

namespace reformer::ort {
namespace {

const CpuRegistration<StepNode<ChunkAttentionStep>> registration;

}  // namespace
}  // namespace reformer::ort
