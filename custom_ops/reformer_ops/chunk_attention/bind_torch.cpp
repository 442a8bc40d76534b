// torch.ops.reformer.chunk_attention and its gradients on the CPU.
#include <cstdint>
#include <tuple>

#include "attention_backward_arguments.h"
#include "chunk_attention/arguments.h"
#include "chunk_attention/backward.h"
#include "torch_binding.h"

namespace reformer::torch_binding {
namespace {

// Output and logsumexp. Without a seed there is neither the latter nor dropout.
std::tuple<Tensor, Tensor> forward(const Tensor& query, const Tensor& key, const Tensor& value,
                                   const Tensor& mask, std::int64_t chunk_length,
                                   std::int64_t num_chunks_before, std::int64_t num_chunks_after,
                                   bool causal, const Tensor* seed, double dropout) {
  return checked([&] {
    const ModelType model("chunk_attention", "query", query);
    model.check("key", key);
    model.check("value", value);
    check_type("chunk_attention", "mask", mask, ScalarType::Bool, "bool");
    ChunkAttentionArguments a{};
    set_sizes(a, shape_of(query), shape_of(key), shape_of(value), shape_of(mask));
    const Tensor readable_query = model.readable(query), readable_key = model.readable(key),
                 readable_value = model.readable(value),
                 readable_mask = torch::stable::contiguous(mask);
    const Tensor output =
        torch::stable::new_empty(readable_query, {a.batch, a.length, a.heads, a.head_dim});
    Tensor lse;
    if (seed != nullptr) {
      a.dropout = dropout_from("chunk_attention", *seed, dropout);
      lse =
          torch::stable::new_empty(readable_query, {a.batch, a.heads, a.length}, ScalarType::Float);
      a.lse = static_cast<float*>(lse.mutable_data_ptr());
    }
    a.dtype = model.dtype();
    a.query = readable_query.const_data_ptr();
    a.key = readable_key.const_data_ptr();
    a.value = readable_value.const_data_ptr();
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.output = output.mutable_data_ptr();
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.causal = causal;
    reformer::chunk_attention(a, threads());
    return std::make_tuple(model.returned(output), lse);
  });
}

Tensor chunk_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                       const Tensor& mask, std::int64_t chunk_length,
                       std::int64_t num_chunks_before, std::int64_t num_chunks_after, bool causal) {
  return std::get<0>(forward(query, key, value, mask, chunk_length, num_chunks_before,
                             num_chunks_after, causal, nullptr, 0.0));
}

std::tuple<Tensor, Tensor> chunk_attention_with_lse(const Tensor& query, const Tensor& key,
                                                    const Tensor& value, const Tensor& mask,
                                                    const Tensor& seed, std::int64_t chunk_length,
                                                    std::int64_t num_chunks_before,
                                                    std::int64_t num_chunks_after, bool causal,
                                                    double dropout) {
  return forward(query, key, value, mask, chunk_length, num_chunks_before, num_chunks_after, causal,
                 &seed, dropout);
}

std::tuple<Tensor, Tensor, Tensor> chunk_attention_backward(
    const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& mask,
    const Tensor& seed, const Tensor& output, const Tensor& lse, const Tensor& gradient,
    std::int64_t chunk_length, std::int64_t num_chunks_before, std::int64_t num_chunks_after,
    bool causal, double dropout) {
  return checked([&] {
    const char* op = "chunk_attention_backward";
    const ModelType model(op, "query", query);
    model.check("key", key);
    model.check("value", value);
    check_type(op, "mask", mask, ScalarType::Bool, "bool");
    model.check("output", output);
    check_type(op, "lse", lse, ScalarType::Float, "float32");
    model.check("gradient", gradient);
    AttentionBackwardArguments a = attention_backward_arguments(
        chunk_attention_axes(op, shape_of(query), shape_of(key), shape_of(value), shape_of(mask)),
        shape_of(output), shape_of(lse), shape_of(gradient));
    a.dropout = dropout_from(op, seed, dropout);
    const Tensor wide_query = model.widened(query), wide_key = model.widened(key),
                 wide_value = model.widened(value), wide_output = model.widened(output),
                 wide_gradient = model.widened(gradient),
                 readable_mask = torch::stable::contiguous(mask),
                 readable_lse = torch::stable::contiguous(lse);
    const auto new_gradient = [&] {
      return torch::stable::new_empty(wide_query, {a.batch, a.length, a.heads, a.head_dim});
    };
    const Tensor query_gradient = new_gradient(), key_gradient = new_gradient(),
                 value_gradient = new_gradient();
    a.query = static_cast<const float*>(wide_query.const_data_ptr());
    a.key = static_cast<const float*>(wide_key.const_data_ptr());
    a.value = static_cast<const float*>(wide_value.const_data_ptr());
    a.output = static_cast<const float*>(wide_output.const_data_ptr());
    a.gradient = static_cast<const float*>(wide_gradient.const_data_ptr());
    a.lse = static_cast<const float*>(readable_lse.const_data_ptr());
    a.mask = static_cast<const std::uint8_t*>(readable_mask.const_data_ptr());
    a.query_gradient = static_cast<float*>(query_gradient.mutable_data_ptr());
    a.key_gradient = static_cast<float*>(key_gradient.mutable_data_ptr());
    a.value_gradient = static_cast<float*>(value_gradient.mutable_data_ptr());
    a.rounds = 1;
    a.chunk_length = chunk_length;
    a.num_chunks_before = num_chunks_before;
    a.num_chunks_after = num_chunks_after;
    a.causal = causal;
    reformer::chunk_attention_backward(a, threads());
    return std::make_tuple(model.narrowed(query_gradient), model.narrowed(key_gradient),
                           model.narrowed(value_gradient));
  });
}

STABLE_TORCH_LIBRARY_FRAGMENT(reformer, library) {
  define(library,
         "chunk_attention(Tensor query, Tensor key, Tensor value, Tensor mask, int chunk_length, "
         "int num_chunks_before, int num_chunks_after, bool causal) -> Tensor");
  define(library,
         "chunk_attention_with_lse(Tensor query, Tensor key, Tensor value, Tensor mask, "
         "Tensor seed, int chunk_length, int num_chunks_before, int num_chunks_after, "
         "bool causal, float dropout) -> (Tensor, Tensor)");
  define(library,
         "chunk_attention_backward(Tensor query, Tensor key, Tensor value, Tensor mask, "
         "Tensor seed, Tensor output, Tensor lse, Tensor gradient, int chunk_length, "
         "int num_chunks_before, int num_chunks_after, bool causal, float dropout) "
         "-> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(reformer, CPU, library) {
  library.impl("chunk_attention", TORCH_BOX(&chunk_attention));
  library.impl("chunk_attention_with_lse", TORCH_BOX(&chunk_attention_with_lse));
  library.impl("chunk_attention_backward", TORCH_BOX(&chunk_attention_backward));
}

}  // namespace
}  // namespace reformer::torch_binding
