// A dense tensor in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reformer/export.h"

namespace reformer {

enum class DType {
  boolean,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float16,
  bfloat16,
  float32,
  float64,
};

// NumPy's name of a type ("float32"), and the size of one number in bytes.
REFORMER_EXPORT const char* dtype_name(DType dtype) noexcept;
REFORMER_EXPORT std::size_t dtype_size(DType dtype) noexcept;

// True if numbers of the type are stored as T; float16 and bfloat16 are stored as std::uint16_t.
template <typename T>
REFORMER_EXPORT bool dtype_holds(DType dtype) noexcept;

using Shape = std::vector<std::int64_t>;

// Numbers of one type, row-major. Copies share the memory.
class REFORMER_EXPORT Tensor {
 public:
  // A tensor of zeros. Throws Error (input) for a negative size or a size that overflows.
  Tensor(DType dtype, Shape shape);
  // Uses `memory` and keeps it alive. It must hold at least as many bytes as dtype and shape need.
  Tensor(DType dtype, Shape shape, std::shared_ptr<void> memory);
  // Owns the values. Throws Error (input) if the shape does not match the number of values.
  static Tensor of(Shape shape, std::vector<std::int64_t> values);
  static Tensor of(Shape shape, std::vector<float> values);

  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return size_ * dtype_size(dtype_); }

  void* raw() noexcept { return memory_.get(); }
  const void* raw() const noexcept { return memory_.get(); }

  // The numbers. Throws Error (usage) if they are not stored as T.
  template <typename T>
  T* data() {
    check_type(dtype_holds<T>(dtype_));
    return static_cast<T*>(raw());
  }
  template <typename T>
  const T* data() const {
    check_type(dtype_holds<T>(dtype_));
    return static_cast<const T*>(raw());
  }

 private:
  void check_type(bool holds) const;

  DType dtype_;
  Shape shape_;
  std::size_t size_;
  std::shared_ptr<void> memory_;
};

// Tensors by name, in the order of the model's signature.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// The tensor with that name, or null.
REFORMER_EXPORT const Tensor* find(const NamedTensors& tensors, const std::string& name) noexcept;

}  // namespace reformer
