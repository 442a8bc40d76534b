// ChunkAttention for ONNX Runtime.
#include "chunk_attention/arguments.h"
#include "ort_attention.h"

namespace reformer::ort {
namespace {

const AttentionRegistration<ChunkAttention> registration;

}  // namespace
}  // namespace reformer::ort
