#include "onnx_decoder.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "manifest.h"
#include "messages.h"
#include "numbers.h"

namespace reformer {
namespace {

const std::string kInputIds = "input_ids", kPastLength = "past_length",
                  kPromptLength = "prompt_length", kLogits = "logits", kPast = "past_",
                  kPresent = "present_", kCapacity = "capacity", kBlocks = "blocks";

const Artifact& with_decoder(const Artifact& artifact) {
  if (artifact.manifest().formats.count(kDecoderFormat) == 0)
    fail(ErrorKind::usage, artifact.path().string(), " holds no ", kDecoderFormat,
         ": export it with reformer-export to-onnx --task text-generation-with-past");
  return artifact;
}

const std::string& graph_of(const Artifact& artifact, std::size_t index) {
  return artifact.manifest().formats.at(kDecoderFormat).files.at(index);
}

// Throws Error (artifact) for an ONNX type that a decoder may not have.
TensorSpec spec_of(const std::string& name, const Ort::TypeInfo& type) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR)
    fail(ErrorKind::artifact, "the decoder's ", in_quotes(name), " is not a tensor: export again");
  const auto info = type.GetTensorTypeAndShapeInfo();
  const Shape sizes = info.GetShape();
  std::vector<const char*> names(sizes.size());
  info.GetSymbolicDimensions(names.data(), names.size());
  TensorSpec spec{name, DType::float32, {}};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0)
      spec.axes.emplace_back(std::string(names[i]));
    else
      spec.axes.emplace_back(sizes[i]);
  }
  for (DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::float64, DType::int32,
                      DType::int64})
    if (element_type(dtype) == info.GetElementType()) {
      spec.dtype = dtype;
      return spec;
    }
  fail(ErrorKind::artifact, "the decoder's ", in_quotes(name),
       " has an unknown type: export again");
}

std::map<std::string, TensorSpec> inputs_of(const Ort::Session& session) {
  const Ort::AllocatorWithDefaultOptions allocator;
  std::map<std::string, TensorSpec> specs;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    const std::string name = session.GetInputNameAllocated(i, allocator).get();
    specs[name] = spec_of(name, session.GetInputTypeInfo(i));
  }
  return specs;
}

std::map<std::string, TensorSpec> outputs_of(const Ort::Session& session) {
  const Ort::AllocatorWithDefaultOptions allocator;
  std::map<std::string, TensorSpec> specs;
  for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
    const std::string name = session.GetOutputNameAllocated(i, allocator).get();
    specs[name] = spec_of(name, session.GetOutputTypeInfo(i));
  }
  return specs;
}

// The axis of the tokens: the first dynamic axis after the batch. Without one, it is axis 1,
// because all entries are copied in any case.
std::size_t token_axis(const TensorSpec& spec) {
  for (std::size_t i = 1; i < spec.axes.size(); ++i)
    if (spec.axes[i].index() == 0) return i;
  return 1;
}

// True for a valid tensor of a cache: [batch, ...] with at most one other dynamic axis, the tokens.
bool is_sound(const TensorSpec& spec) {
  if (spec.axes.size() < 2 || spec.axes[0].index() != 0) return false;
  const auto dynamic = std::count_if(spec.axes.begin() + 1, spec.axes.end(),
                                     [](const auto& axis) { return axis.index() == 0; });
  const auto& tokens = spec.axes[token_axis(spec)];
  if (dynamic != 1) return dynamic == 0;
  return std::get<0>(tokens) == kCapacity || std::get<0>(tokens) == kBlocks;
}

// The tokens in a block: the last axis of an `order` tensor [.., blocks, block_length]; 1 if the
// cache has no such tensor.
std::int64_t block_length_of(const std::vector<TensorSpec>& layout) {
  for (const TensorSpec& spec : layout) {
    const auto& last = spec.axes.back();
    const auto& before = spec.axes[spec.axes.size() - 2];
    if (before.index() == 0 && std::get<0>(before) == kBlocks && last.index() == 1)
      return std::max<std::int64_t>(std::get<1>(last), 1);
  }
  return 1;
}

// Copies sequence `from` of `source` to sequence `to` of `target`, which has room for at least as
// many tokens. All other axes are equal.
void copy_sequence(const Tensor& source, std::size_t from, Tensor& target, std::size_t to,
                   std::size_t token_axis) {
  std::size_t before = 1, after = dtype_size(source.dtype());
  for (std::size_t i = 1; i < source.shape().size(); ++i) {
    if (i < token_axis) before *= static_cast<std::size_t>(source.shape()[i]);
    if (i > token_axis) after *= static_cast<std::size_t>(source.shape()[i]);
  }
  const std::size_t taken = static_cast<std::size_t>(source.shape()[token_axis]) * after,
                    room = static_cast<std::size_t>(target.shape()[token_axis]) * after;
  const char* read = static_cast<const char*>(source.raw()) + from * before * taken;
  char* write = static_cast<char*>(target.raw()) + to * before * room;
  for (std::size_t i = 0; i < before; ++i) std::memcpy(write + i * room, read + i * taken, taken);
}

Scores scores_of(const Tensor& logits, std::size_t row, std::int64_t vocab_size) {
  Scores scores(static_cast<std::size_t>(vocab_size));
  for (std::size_t i = 0; i < scores.size(); ++i)
    scores[i] = number_at(logits, row * scores.size() + i);
  return scores;
}

std::vector<const char*> pointers(const std::vector<std::string>& names) {
  std::vector<const char*> all;
  for (const std::string& name : names) all.push_back(name.c_str());
  return all;
}

[[noreturn]] void failed(const Ort::Exception& error) {
  fail(ErrorKind::inference, "onnxruntime failed to generate: ", one_line(error.what()));
}

}  // namespace

void Cache::clear(std::size_t row) {
  past_length.data<std::int64_t>()[row] = prompt_length.data<std::int64_t>()[row] = 0;
}

OnnxDecoder::OnnxDecoder(const Artifact& artifact, const Options& options,
                         std::vector<std::string>& notes)
    : opener_(with_decoder(artifact), kDecoderFormat, options, notes),
      vocab_size_(artifact.signature().vocab_size),
      prefill_(opener_.open(graph_of(artifact, 0))),
      step_(opener_.open(graph_of(artifact, 1))),
      inputs_{kInputIds, kPastLength, kPromptLength},
      outputs_{kLogits} {
  const auto outputs = outputs_of(step_);
  // A step writes these outputs into our memory, so their types must be those of the inputs.
  const auto output = [&](const std::string& name) {
    const auto found = outputs.find(name);
    if (found == outputs.end())
      fail(ErrorKind::artifact, graph_of(artifact, 1), " has no output ", name, ": export again");
    return found->second;
  };
  logits_ = output(kLogits);
  for (const auto& [input, spec] : inputs_of(step_)) {
    if (input.rfind(kPast, 0) != 0 || input == kPastLength) continue;
    const std::string name = input.substr(kPast.size());
    if (!is_sound(spec) || output(kPresent + name).dtype != spec.dtype)
      fail(ErrorKind::artifact, graph_of(artifact, 1), " takes ", in_quotes(input),
           ", which is not part of a cache: export again");
    layout_.push_back({name, spec.dtype, spec.axes});
    inputs_.push_back(input);
    outputs_.push_back(kPresent + name);
  }
  block_length_ = block_length_of(layout_);
}

Shape OnnxDecoder::shape_of(const TensorSpec& spec, std::int64_t batch,
                            std::int64_t capacity) const {
  const std::int64_t blocks = (capacity + block_length_ - 1) / block_length_;
  Shape shape{batch};
  for (std::size_t i = 1; i < spec.axes.size(); ++i) {
    const auto& axis = spec.axes[i];
    if (axis.index() == 1)
      shape.push_back(std::get<1>(axis));
    else
      shape.push_back(std::get<0>(axis) == kBlocks ? blocks : capacity);
  }
  return shape;
}

std::vector<Tensor> OnnxDecoder::empty_tensors(std::int64_t batch, std::int64_t capacity) const {
  std::vector<Tensor> tensors;
  for (const TensorSpec& spec : layout_)
    tensors.emplace_back(spec.dtype, shape_of(spec, batch, capacity));
  return tensors;
}

std::pair<std::vector<Scores>, Cache> OnnxDecoder::prefill(const std::vector<TokenIds>& prompts,
                                                           std::int64_t capacity) const {
  const auto batch = static_cast<std::int64_t>(prompts.size());
  std::vector<Tensor> tensors = empty_tensors(batch, capacity);
  Cache cache{tensors, opener_.native() ? tensors : empty_tensors(batch, capacity),
              Tensor(DType::int64, {batch}), Tensor(DType::int64, {batch})};
  std::vector<Scores> scores(prompts.size());
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t row = 0; row < prompts.size(); ++row)
    by_length[prompts[row].size()].push_back(row);

  const std::vector<const char*> output_names = pointers(outputs_);
  const char* input_name = kInputIds.c_str();
  for (const auto& [length, rows] : by_length) {
    TokenIds ids;
    for (std::size_t row : rows) ids.insert(ids.end(), prompts[row].begin(), prompts[row].end());
    const auto count = static_cast<std::int64_t>(rows.size()),
               tokens = static_cast<std::int64_t>(length);
    const Tensor input = Tensor::of({count, tokens}, std::move(ids));
    std::vector<Ort::Value> results;
    try {
      const Ort::Value feed = opener_.value_of(input);
      // Ort::Session::Run is not const, but threads may call it at the same time.
      results =
          const_cast<Ort::Session&>(prefill_).Run(Ort::RunOptions{nullptr}, &input_name, &feed, 1,
                                                  output_names.data(), output_names.size());
    } catch (const Ort::Exception& error) {
      failed(error);
    }
    const auto result = [&](std::size_t index, const TensorSpec& spec, const Shape& shape) {
      Tensor tensor = tensor_from(std::move(results[index]), spec);
      if (tensor.shape() != shape)
        fail(ErrorKind::inference, "onnxruntime gave ", outputs_[index], " of shape ",
             listed(tensor.shape()), ", and the decoder needs ", listed(shape), ": export again");
      return tensor;
    };
    const Tensor logits = result(0, logits_, {count, 1, vocab_size_});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      scores[rows[i]] = scores_of(logits, i, vocab_size_);
      cache.past_length.data<std::int64_t>()[rows[i]] = tokens;
      cache.prompt_length.data<std::int64_t>()[rows[i]] = tokens;
    }
    for (std::size_t k = 0; k < layout_.size(); ++k) {
      const Tensor present = result(k + 1, layout_[k], shape_of(layout_[k], count, tokens));
      for (std::size_t i = 0; i < rows.size(); ++i)
        copy_sequence(present, i, cache.tensors[k], rows[i], token_axis(layout_[k]));
    }
  }
  return {std::move(scores), std::move(cache)};
}

std::vector<Scores> OnnxDecoder::step(const TokenIds& tokens, Cache& cache) const {
  const auto batch = static_cast<std::int64_t>(tokens.size());
  const Tensor ids = Tensor::of({batch, 1}, tokens);
  const Tensor logits(logits_.dtype, {batch, 1, vocab_size_});
  try {
    std::vector<Ort::Value> feeds, results;
    feeds.push_back(opener_.value_of(ids));
    feeds.push_back(opener_.value_of(cache.past_length));
    feeds.push_back(opener_.value_of(cache.prompt_length));
    results.push_back(opener_.value_of(logits));
    for (const Tensor& tensor : cache.tensors) feeds.push_back(opener_.value_of(tensor));
    for (const Tensor& tensor : cache.next) results.push_back(opener_.value_of(tensor));
    const_cast<Ort::Session&>(step_).Run(Ort::RunOptions{nullptr}, pointers(inputs_).data(),
                                         feeds.data(), feeds.size(), pointers(outputs_).data(),
                                         results.data(), results.size());
  } catch (const Ort::Exception& error) {
    failed(error);
  }
  std::swap(cache.tensors, cache.next);
  std::vector<Scores> scores;
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    ++cache.past_length.data<std::int64_t>()[row];
    scores.push_back(scores_of(logits, row, vocab_size_));
  }
  return scores;
}

}  // namespace reformer
