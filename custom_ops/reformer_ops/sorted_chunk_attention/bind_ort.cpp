// SortedChunkAttention for ONNX Runtime.
#include "ort_attention.h"
#include "sorted_chunk_attention/arguments.h"

namespace reformer::ort {
namespace {

const AttentionRegistration<SortedChunkAttention> registration;

}  // namespace
}  // namespace reformer::ort
