#include "reformer/tensor.h"

#include <cstdlib>
#include <limits>
#include <new>

#include "messages.h"

namespace reformer {
namespace {

std::size_t checked_size(DType dtype, const Shape& shape) {
  std::size_t count = 1;
  for (std::int64_t axis : shape) {
    if (axis < 0 || __builtin_mul_overflow(count, static_cast<std::size_t>(axis), &count))
      fail(ErrorKind::input, "a tensor of shape ", listed(shape),
           " is impossible: sizes must be at least 0, and their product must fit into memory");
  }
  std::size_t bytes;
  if (__builtin_mul_overflow(count, dtype_size(dtype), &bytes) ||
      bytes > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()))
    fail(ErrorKind::input, "a tensor of shape ", listed(shape), " is too large");
  return count;
}

std::shared_ptr<void> zeros(std::size_t bytes) {
  void* memory = std::calloc(bytes == 0 ? 1 : bytes, 1);
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, std::free};
}

// A tensor that keeps the values.
template <typename T>
Tensor owning(DType dtype, Shape shape, std::vector<T> values) {
  auto kept = std::make_shared<std::vector<T>>(std::move(values));
  Tensor tensor(dtype, std::move(shape), std::shared_ptr<void>(kept, kept->data()));
  if (tensor.size() != kept->size())
    fail(ErrorKind::input, "a tensor of shape ", listed(tensor.shape()), " takes ",
         std::to_string(tensor.size()), " values; got ", std::to_string(kept->size()));
  return tensor;
}

}  // namespace

const char* dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::boolean:
      return "bool";
    case DType::int8:
      return "int8";
    case DType::int16:
      return "int16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::uint8:
      return "uint8";
    case DType::uint16:
      return "uint16";
    case DType::uint32:
      return "uint32";
    case DType::uint64:
      return "uint64";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
  }
  return "unknown";
}

std::size_t dtype_size(DType dtype) noexcept {
  switch (dtype) {
    case DType::boolean:
    case DType::int8:
    case DType::uint8:
      return 1;
    case DType::int16:
    case DType::uint16:
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::int32:
    case DType::uint32:
    case DType::float32:
      return 4;
    case DType::int64:
    case DType::uint64:
    case DType::float64:
      return 8;
  }
  return 1;
}

#define REFORMER_HOLDS(T, condition)                      \
  template <>                                             \
  REFORMER_EXPORT bool dtype_holds<T>(DType t) noexcept { \
    return condition;                                     \
  }
REFORMER_HOLDS(bool, t == DType::boolean)
REFORMER_HOLDS(std::int8_t, t == DType::int8)
REFORMER_HOLDS(std::int16_t, t == DType::int16)
REFORMER_HOLDS(std::int32_t, t == DType::int32)
REFORMER_HOLDS(std::int64_t, t == DType::int64)
REFORMER_HOLDS(std::uint8_t, t == DType::uint8)
REFORMER_HOLDS(std::uint16_t, t == DType::uint16 || t == DType::float16 || t == DType::bfloat16)
REFORMER_HOLDS(std::uint32_t, t == DType::uint32)
REFORMER_HOLDS(std::uint64_t, t == DType::uint64)
REFORMER_HOLDS(float, t == DType::float32)
REFORMER_HOLDS(double, t == DType::float64)
#undef REFORMER_HOLDS

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      size_(checked_size(dtype_, shape_)),
      memory_(zeros(bytes())) {}

Tensor::Tensor(DType dtype, Shape shape, std::shared_ptr<void> memory)
    : dtype_(dtype),
      shape_(std::move(shape)),
      size_(checked_size(dtype_, shape_)),
      memory_(std::move(memory)) {}

Tensor Tensor::of(Shape shape, std::vector<std::int64_t> values) {
  return owning(DType::int64, std::move(shape), std::move(values));
}

Tensor Tensor::of(Shape shape, std::vector<float> values) {
  return owning(DType::float32, std::move(shape), std::move(values));
}

void Tensor::check_type(bool holds) const {
  if (!holds)
    fail(ErrorKind::usage, "the tensor holds ", dtype_name(dtype_), ", not the requested type");
}

const Tensor* find(const NamedTensors& tensors, const std::string& name) noexcept {
  for (const auto& [known, tensor] : tensors)
    if (known == name) return &tensor;
  return nullptr;
}

}  // namespace reformer
