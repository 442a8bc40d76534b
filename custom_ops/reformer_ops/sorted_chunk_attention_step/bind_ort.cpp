// SortedChunkAttentionStep for ONNX Runtime.
#include "ort_step.h"
#include "sorted_chunk_attention_step/arguments.h"

namespace reformer::ort {
namespace {

const CpuRegistration<StepNode<SortedChunkAttentionStep>> registration;

}  // namespace
}  // namespace reformer::ort
