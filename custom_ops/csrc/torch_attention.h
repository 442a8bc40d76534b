// Both attentions and their gradients on the CPU, for torch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "attention_arguments.h"
#include "torch_binding.h"

namespace reformer::torch_binding {

// Attributes in the order of SortedChunkAttention's; ChunkAttention has no num_buckets.
inline AttentionSizes attention_attributes(std::int64_t num_buckets, std::int64_t chunk_length,
                                           std::int64_t num_chunks_before,
                                           std::int64_t num_chunks_after, bool causal) {
  AttentionSizes attributes;
  attributes.num_buckets = num_buckets;
  attributes.chunk_length = chunk_length;
  attributes.num_chunks_before = num_chunks_before;
  attributes.num_chunks_after = num_chunks_after;
  attributes.causal = causal;
  return attributes;
}

// Returns output and logsumexp. Without a seed, there is no dropout and the logsumexp is undefined.
// Attention is ChunkAttention or SortedChunkAttention.
template <typename Attention>
std::tuple<Tensor, Tensor> attention(const std::array<Tensor, 4>& inputs,
                                     const AttentionSizes& attributes, const Tensor* seed = nullptr,
                                     double dropout = 0.0) {
  return checked([&] {
    DeclaredOperands operands(Attention::kTorchName, Attention::kInputs, inputs);
    AttentionArguments a{attributes};
    a.set_axes(operands.axes());
    const auto readable = operands.readable();
    const Tensor output =
        torch::stable::new_empty(readable.tensors[0], {a.batch, a.length, a.heads, a.head_dim});
    Tensor lse;
    if (seed != nullptr) {
      a.dropout = dropout_from(Attention::kTorchName, *seed, dropout);
      lse = torch::stable::new_empty(output, {a.batch, a.heads, a.length}, ScalarType::Float);
      a.lse = writable(lse);
    }
    a.dtype = operands.model().dtype();
    Attention::set_inputs(a, readable.pointers.data());
    a.output = output.mutable_data_ptr();
    Attention::kForward(a, threads());
    return std::make_tuple(operands.model().returned(output), lse);
  });
}

// Returns the gradients of the first `Count` inputs.
template <typename Attention, std::size_t Count>
std::array<Tensor, Count> attention_backward(const std::array<Tensor, 4>& inputs,
                                             const AttentionSizes& attributes, const Tensor& seed,
                                             const Tensor& output, const Tensor& lse,
                                             const Tensor& gradient, double dropout) {
  return checked([&] {
    const std::string op = std::string(Attention::kTorchName) + "_backward";
    DeclaredOperands operands(op.c_str(), Attention::kInputs, inputs);
    const ModelType& model = operands.model();
    model.check("output", output);
    check_type(op.c_str(), "lse", lse, ScalarType::Float, "float32");
    model.check("gradient", gradient);
    Axes& axes = operands.axes();
    axes.check("output", {"batch", "length", "heads", "head_dim"}, shape_of(output));
    axes.check("lse", {"batch", "heads", "length"}, shape_of(lse));
    axes.check("gradient", {"batch", "length", "heads", "head_dim"}, shape_of(gradient));
    AttentionBackwardArguments a{attributes};
    a.set_axes(axes);
    a.dropout = dropout_from(op.c_str(), seed, dropout);
    const auto wide = operands.widened();
    const Tensor wide_output = model.widened(output), wide_gradient = model.widened(gradient),
                 readable_lse = torch::stable::contiguous(lse);
    Attention::set_inputs(a, wide.pointers.data());
    a.output = static_cast<const float*>(wide_output.const_data_ptr());
    a.gradient = static_cast<const float*>(wide_gradient.const_data_ptr());
    a.lse = static_cast<const float*>(readable_lse.const_data_ptr());
    std::array<Tensor, Count> results;
    float* pointers[Count];
    for (std::size_t i = 0; i < Count; ++i) {
      results[i] = torch::stable::new_empty(wide_output, {a.batch, a.length, a.heads, a.head_dim});
      pointers[i] = writable(results[i]);
    }
    Attention::set_gradients(a, pointers);
    Attention::kBackward(a, threads());
    for (Tensor& result : results) result = model.narrowed(result);
    return results;
  });
}

}  // namespace reformer::torch_binding
