// torch.ops.reformer.sorted_chunk_attention and its gradients on the CPU.
#include <cstdint>
#include <tuple>

#include "attention_backward_arguments.h"
#include "sorted_chunk_attention/arguments.h"
#include "sorted_chunk_attention/backward.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

// Output and logsumexp. Without a seed there is neither the latter nor dropout.
std::tuple<Tensor, Tensor> forward(const Tensor& query_key, const Tensor& value,
                                   const Tensor& buckets, const Tensor& mask,
                                   std::int64_t num_buckets, std::int64_t chunk_length,
                                   std::int64_t num_chunks_before, std::int64_t num_chunks_after,
                                   bool causal, const Tensor* seed, double dropout) {
  return checked([&] {
    const ModelType model("sorted_chunk_attention", "query_key", query_key);
    model.check("value", value);
    check_type("sorted_chunk_attention", "buckets", buckets, ScalarType::Int, "int32");
    check_type("sorted_chunk_attention", "mask", mask, ScalarType::Bool, "bool");
    SortedChunkAttentionArguments a{};
    set_sizes(a, shape_of(query_key), shape_of(value), shape_of(buckets), shape_of(mask));
    const Tensor readable_query_key = model.readable(query_key),
                 readable_value = model.readable(value),
                 readable_buckets = torch::stable::contiguous(buckets),
                 readable_mask = torch::stable::contiguous(mask);
    const Tensor output =
        torch::stable::new_empty(readable_value, {a.batch, a.length, a.heads, a.head_dim});
    Tensor lse;
    if (seed != nullptr) {
      a.dropout = dropout_from("sorted_chunk_attention", *seed, dropout);
      lse =
          torch::stable::new_empty(readable_value, {a.batch, a.heads, a.length}, ScalarType::Float);
      a.lse = static_cast<float*>(lse.mutable_data_ptr());
    }
    a.dtype = model.dtype();
    a.query_key = readable_query_key.const_data_ptr();
    a.value = readable_value.const_data_ptr();
    a.buckets = static_cast<const std::int32_t*>(readable_buckets.const_data_ptr());
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.output = output.mutable_data_ptr();
    a.num_buckets = num_buckets;
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.causal = causal;
    reformer::sorted_chunk_attention(a, threads());
    return std::make_tuple(model.returned(output), lse);
  });
}

Tensor sorted_chunk_attention(const Tensor& query_key, const Tensor& value, const Tensor& buckets,
                              const Tensor& mask, std::int64_t num_buckets,
                              std::int64_t chunk_length, std::int64_t num_chunks_before,
                              std::int64_t num_chunks_after, bool causal) {
  return std::get<0>(forward(query_key, value, buckets, mask, num_buckets, chunk_length,
                             num_chunks_before, num_chunks_after, causal, nullptr, 0.0));
}

std::tuple<Tensor, Tensor> sorted_chunk_attention_with_lse(
    const Tensor& query_key, const Tensor& value, const Tensor& buckets, const Tensor& mask,
    const Tensor& seed, std::int64_t num_buckets, std::int64_t chunk_length,
    std::int64_t num_chunks_before, std::int64_t num_chunks_after, bool causal, double dropout) {
  return forward(query_key, value, buckets, mask, num_buckets, chunk_length, num_chunks_before,
                 num_chunks_after, causal, &seed, dropout);
}

std::tuple<Tensor, Tensor> sorted_chunk_attention_backward(
    const Tensor& query_key, const Tensor& value, const Tensor& buckets, const Tensor& mask,
    const Tensor& seed, const Tensor& output, const Tensor& lse, const Tensor& gradient,
    std::int64_t num_buckets, std::int64_t chunk_length, std::int64_t num_chunks_before,
    std::int64_t num_chunks_after, bool causal, double dropout) {
  return checked([&] {
    const char* op = "sorted_chunk_attention_backward";
    const ModelType model(op, "query_key", query_key);
    model.check("value", value);
    check_type(op, "buckets", buckets, ScalarType::Int, "int32");
    check_type(op, "mask", mask, ScalarType::Bool, "bool");
    model.check("output", output);
    check_type(op, "lse", lse, ScalarType::Float, "float32");
    model.check("gradient", gradient);
    AttentionBackwardArguments a = attention_backward_arguments(
        sorted_chunk_attention_axes(op, shape_of(query_key), shape_of(value), shape_of(buckets),
                                    shape_of(mask)),
        shape_of(output), shape_of(lse), shape_of(gradient));
    a.dropout = dropout_from(op, seed, dropout);
    const Tensor wide_query_key = model.widened(query_key), wide_value = model.widened(value),
                 wide_output = model.widened(output), wide_gradient = model.widened(gradient),
                 readable_buckets = torch::stable::contiguous(buckets),
                 readable_mask = torch::stable::contiguous(mask),
                 readable_lse = torch::stable::contiguous(lse);
    const auto new_gradient = [&] {
      return torch::stable::new_empty(wide_value, {a.batch, a.length, a.heads, a.head_dim});
    };
    const Tensor query_key_gradient = new_gradient(), value_gradient = new_gradient();
    a.query = a.key = static_cast<const float*>(wide_query_key.const_data_ptr());
    a.value = static_cast<const float*>(wide_value.const_data_ptr());
    a.output = static_cast<const float*>(wide_output.const_data_ptr());
    a.gradient = static_cast<const float*>(wide_gradient.const_data_ptr());
    a.lse = static_cast<const float*>(readable_lse.const_data_ptr());
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.query_gradient = a.key_gradient = static_cast<float*>(query_key_gradient.mutable_data_ptr());
    a.value_gradient = static_cast<float*>(value_gradient.mutable_data_ptr());
    a.rounds = buckets.size(2);
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.shared = true;
    a.causal = causal;
    reformer::sorted_chunk_attention_backward(
        a, static_cast<const std::int32_t*>(readable_buckets.const_data_ptr()), num_buckets,
        threads());
    return std::make_tuple(model.narrowed(query_key_gradient), model.narrowed(value_gradient));
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "sorted_chunk_attention(Tensor query_key, Tensor value, Tensor buckets, Tensor mask, "
         "int num_buckets, int chunk_length, int num_chunks_before, int num_chunks_after, "
         "bool causal) -> Tensor");
  define(library,
         "sorted_chunk_attention_with_lse(Tensor query_key, Tensor value, Tensor buckets, "
         "Tensor mask, Tensor seed, int num_buckets, int chunk_length, int num_chunks_before, "
         "int num_chunks_after, bool causal, float dropout) -> (Tensor, Tensor)");
  define(library,
         "sorted_chunk_attention_backward(Tensor query_key, Tensor value, Tensor buckets, "
         "Tensor mask, Tensor seed, Tensor output, Tensor lse, Tensor gradient, "
         "int num_buckets, int chunk_length, int num_chunks_before, int num_chunks_after, "
         "bool causal, float dropout) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("sorted_chunk_attention", TORCH_BOX(&sorted_chunk_attention));
  library.impl("sorted_chunk_attention_with_lse", TORCH_BOX(&sorted_chunk_attention_with_lse));
  library.impl("sorted_chunk_attention_backward", TORCH_BOX(&sorted_chunk_attention_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
