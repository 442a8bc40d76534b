#include <algorithm>
#include <type_traits>

#include "messages.h"
#include "reformer/artifact.h"
#include "series_signature.h"

namespace reformer {
namespace {

constexpr const char* kInputIds = "input_ids";
constexpr const char* kAttentionMask = "attention_mask";

// Calls function(pointer to the numbers) if the tensor holds integers, or, if `boolean` is true,
// booleans (as bytes). Throws Error (input) for any other type.
template <typename Function>
void with_integers(const std::string& name, const Tensor& tensor, bool boolean,
                   Function&& function) {
  switch (tensor.dtype()) {
    case DType::boolean:
      if (boolean) return function(static_cast<const std::uint8_t*>(tensor.raw()));
      break;
    case DType::int8:
      return function(tensor.data<std::int8_t>());
    case DType::int16:
      return function(tensor.data<std::int16_t>());
    case DType::int32:
      return function(tensor.data<std::int32_t>());
    case DType::int64:
      return function(tensor.data<std::int64_t>());
    case DType::uint8:
      return function(tensor.data<std::uint8_t>());
    case DType::uint16:
      return function(tensor.data<std::uint16_t>());
    case DType::uint32:
      return function(tensor.data<std::uint32_t>());
    case DType::uint64:
      return function(tensor.data<std::uint64_t>());
    default:
      break;
  }
  fail(ErrorKind::input, name, " must be integers, found ", dtype_name(tensor.dtype()),
       ": cast to int64");
}

// "name[row, column]" of an element.
std::string place(const std::string& name, const Shape& shape, std::size_t index) {
  const auto columns = static_cast<std::size_t>(shape[1]);
  return name + "[" + std::to_string(index / columns) + ", " + std::to_string(index % columns) +
         "]";
}

Tensor checked_ids(const Signature& signature, const Tensor& given) {
  const Shape& shape = given.shape();
  Tensor ids(DType::int64, {});
  with_integers(kInputIds, given, false, [&](auto* values) {
    using Value = std::decay_t<decltype(*values)>;
    if (shape.size() != 2)
      fail(ErrorKind::input, kInputIds, " must be [batch, sequence], found shape ", listed(shape),
           shape.size() == 1 ? ": add the batch axis, ids[None, :]" : "");
    if (shape[0] == 0)
      fail(ErrorKind::input, kInputIds, " has shape ", listed(shape),
           ", an empty batch: give at least one row");
    const std::int64_t length = shape[1];
    if (length < signature.min_length || length > signature.max_length)
      fail(
          ErrorKind::input, kInputIds, " holds ",
          length == 0 ? "an empty sequence" : "a sequence of " + std::to_string(length) + " tokens",
          "; the model takes ", std::to_string(signature.min_length), " to ",
          std::to_string(signature.max_length), ": ",
          length == 0 ? "give at least one token" : "split or cut it");
    ids = Tensor(DType::int64, shape);
    const auto above = static_cast<std::uint64_t>(signature.vocab_size);
    std::size_t outside = 0, first = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      // Check before the cast: a huge uint64 must not become a valid token id.
      const bool negative = std::is_signed_v<Value> && values[i] < 0;
      if (negative || static_cast<std::uint64_t>(values[i]) >= above) {
        if (outside++ == 0) first = i;
      }
      ids.data<std::int64_t>()[i] = static_cast<std::int64_t>(values[i]);
    }
    if (outside > 0)
      fail(ErrorKind::input, place(kInputIds, shape, first), " is ", std::to_string(values[first]),
           ", outside the vocabulary 0..", std::to_string(signature.vocab_size - 1), " (",
           std::to_string(outside), " such ids): encode the text with the model's own tokenizer");
  });
  return ids;
}

Tensor checked_mask(const Tensor* given, const Shape& shape) {
  Tensor mask(DType::int64, shape);
  auto* to = mask.data<std::int64_t>();
  if (given == nullptr) {
    std::fill(to, to + mask.size(), 1);
    return mask;
  }
  with_integers(kAttentionMask, *given, true, [&](auto* values) {
    if (given->shape() != shape)
      fail(ErrorKind::input, kAttentionMask, " has shape ", listed(given->shape()), " and ",
           kInputIds, " ", listed(shape), ": give one 0 or 1 for each token");
    for (std::size_t i = 0; i < mask.size(); ++i) {
      if (values[i] != 0 && values[i] != 1)
        fail(ErrorKind::input, place(kAttentionMask, shape, i), " is ", std::to_string(values[i]),
             ": use 1 for a token and 0 for padding");
      to[i] = static_cast<std::int64_t>(values[i]);
    }
  });
  return mask;
}

NamedTensors checked_tokens(const Signature& signature, const NamedTensors& given) {
  const Tensor* found = find(given, kInputIds);
  if (found == nullptr)
    fail(ErrorKind::input, kInputIds, " is missing: give the token ids as [batch, sequence]");
  const Tensor ids = checked_ids(signature, *found);
  const Tensor mask = checked_mask(find(given, kAttentionMask), ids.shape());
  NamedTensors all;
  for (const TensorSpec& spec : signature.inputs)
    all.emplace_back(spec.name, spec.name == kInputIds ? ids : mask);
  return all;
}

}  // namespace

NamedTensors Signature::check(const NamedTensors& given) const {
  std::vector<std::string> known;
  for (const TensorSpec& spec : inputs) known.push_back(spec.name);
  for (const auto& [name, tensor] : given)
    if (std::find(known.begin(), known.end(), name) == known.end())
      fail(ErrorKind::input, "the model has no input ", in_quotes(name), ": it takes ",
           joined(known));
  return kind == SignatureKind::tokens ? checked_tokens(*this, given)
                                       : checked_series(*this, given);
}

std::string Signature::extent(const NamedTensors& checked) const {
  // In both kinds the first axes of the first input are the batch and the sequence.
  const Shape& shape = checked.front().second.shape();
  return std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + " " + unit();
}

const char* Signature::unit() const noexcept {
  return kind == SignatureKind::tokens ? "tokens" : "steps";
}

}  // namespace reformer
