// The common part of all torch bindings. It uses only torch's stable ABI: the library works with
// every torch from 2.10 on (TORCH_TARGET_VERSION in CMakeLists.txt).
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "common.h"
#include "dropout.h"
#include "first_error.h"
#include "operands.h"
#include "parallel.h"

namespace reformer::torch_binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Defines a schema, unless Python has defined it already.
inline void define(torch::stable::detail::StableLibrary& library, const char* schema) {
  try {
    library.def(schema);
  } catch (const std::exception&) {
    // Defined already.
  }
}

// Runs tasks on the threads of at::parallel_for.
inline Parallel threads() {
  const auto run = [](void*, std::size_t count, Parallel::Task task, void* argument) {
    const std::size_t workers = std::min<std::size_t>(count, torch::stable::get_num_threads());
    std::atomic<std::size_t> next{0};
    FirstError error;
    // A thread takes the next task when it has finished one.
    torch::stable::parallel_for(0, workers, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t worker = begin; worker < end; ++worker)
        for (std::size_t index = next++; index < count; index = next++)
          error.run([&] { task(argument, index); });
    });
    error.rethrow();
  };
  return {nullptr, run};
}

// Runs the function and converts Error to std::invalid_argument, which is ValueError in Python: the
// portable implementation raises the same.
template <typename Function>
auto checked(Function&& function) {
  try {
    return function();
  } catch (const Error& error) {
    throw std::invalid_argument(error.what());
  }
}

inline Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return Shape(sizes.begin(), sizes.end());
}

// Throws Error unless the operand has `type`; `name` is for the message.
inline void check_type(const char* op, const char* operand, const Tensor& tensor, ScalarType type,
                       const char* name) {
  if (tensor.scalar_type() != type)
    throw Error(std::string(op) + " takes " + name + " for " + operand + "; got " +
                torch::headeronly::toString(tensor.scalar_type()));
}

// Dropout with a seed tensor. Throws Error for a share outside [0, 1).
inline Dropout dropout_from(const char* op, const Tensor& seed, double share) {
  Axes(op).check("seed", {}, shape_of(seed));
  check_type(op, "seed", seed, ScalarType::Long, "int64");
  if (!(share >= 0.0 && share < 1.0))
    throw Error(std::string(op) + " takes dropout >= 0 and < 1; got " + std::to_string(share));
  return Dropout(*static_cast<const std::int64_t*>(seed.const_data_ptr()), share);
}

inline float* writable(const Tensor& tensor) {
  return static_cast<float*>(tensor.mutable_data_ptr());
}

// Contiguous operands of an operator that supports fp32 only; they live as long as this object.
class FloatOperands {
 public:
  explicit FloatOperands(const char* op) : op_(op), axes_(op) {}

  // The numbers of a contiguous operand. Throws Error if type or shape do not fit.
  const float* read(const char* operand, std::initializer_list<const char*> names,
                    const Tensor& tensor) {
    check_type(op_, operand, tensor, ScalarType::Float, "float32");
    axes_.check(operand, names, shape_of(tensor));
    kept_.push_back(torch::stable::contiguous(tensor));
    return static_cast<const float*>(kept_.back().const_data_ptr());
  }

  // The size of an axis of the operands that were read.
  std::int64_t operator[](const char* axis) { return axes_[axis]; }

 private:
  const char* op_;
  Axes axes_;
  std::vector<Tensor> kept_;
};

// The type of a model's tensors, from the first tensor.
class ModelType {
 public:
  ModelType(const char* op, const char* operand, const Tensor& tensor)
      : op_(op), given_(tensor.scalar_type()) {
    if (given_ != ScalarType::Float && given_ != ScalarType::Half && given_ != ScalarType::BFloat16)
      refuse(operand, given_);
  }

  void check(const char* operand, const Tensor& tensor) const {
    if (tensor.scalar_type() != given_) refuse(operand, tensor.scalar_type());
  }

  DType dtype() const { return given_ == ScalarType::Half ? DType::f16 : DType::f32; }

  // The tensor for kernels: contiguous, and bfloat16 converted to fp32.
  Tensor readable(const Tensor& tensor) const {
    return torch::stable::contiguous(
        given_ == ScalarType::BFloat16 ? torch::stable::to(tensor, ScalarType::Float) : tensor);
  }

  // An output of these kernels, converted to the model's type.
  Tensor returned(const Tensor& tensor) const {
    return given_ == ScalarType::BFloat16 ? torch::stable::to(tensor, given_) : tensor;
  }

  // The tensor for kernels that support fp32 only: contiguous and converted to fp32.
  Tensor widened(const Tensor& tensor) const {
    return torch::stable::contiguous(
        given_ == ScalarType::Float ? tensor : torch::stable::to(tensor, ScalarType::Float));
  }

  // An output of kernels that support fp32 only, converted to the model's type.
  Tensor narrowed(const Tensor& tensor) const {
    return given_ == ScalarType::Float ? tensor : torch::stable::to(tensor, given_);
  }

 private:
  [[noreturn]] void refuse(const char* operand, ScalarType found) const {
    throw Error(op_ + " takes float32, float16 or bfloat16, the same for all its float " +
                "inputs, for " + operand + "; got " + torch::headeronly::toString(found));
  }

  std::string op_;
  ScalarType given_;
};

// The inputs of one call. The constructor checks them against their declaration; throws Error if a
// type or shape does not fit.
template <std::size_t Count>
class DeclaredOperands {
 public:
  DeclaredOperands(const char* op, const Operand (&declared)[Count],
                   const std::array<Tensor, Count>& given)
      : declared_(declared), given_(given), model_(op, declared[0].name, given[0]), axes_(op) {
    for (std::size_t i = 0; i < Count; ++i) check_type_of(op, i);
    for (std::size_t i = 0; i < Count; ++i)
      axes_.check(declared[i].name, declared[i].axes(), shape_of(given[i]));
  }

  const ModelType& model() const { return model_; }
  Axes& axes() { return axes_; }

  struct Contiguous {
    std::array<Tensor, Count> tensors;
    std::array<const void*, Count> pointers;
  };
  // Contiguous inputs. Those of the model's type are converted by ModelType::readable or widened.
  Contiguous readable() const { return contiguous(&ModelType::readable); }
  Contiguous widened() const { return contiguous(&ModelType::widened); }

 private:
  void check_type_of(const char* op, std::size_t i) const {
    const char* name = declared_[i].name;
    switch (declared_[i].type) {
      case Type::model:
        return model_.check(name, given_[i]);
      case Type::f32:
        return check_type(op, name, given_[i], ScalarType::Float, "float32");
      case Type::i32:
        return check_type(op, name, given_[i], ScalarType::Int, "int32");
      case Type::i8:
        return check_type(op, name, given_[i], ScalarType::Char, "int8");
      case Type::u8:
        return check_type(op, name, given_[i], ScalarType::Byte, "uint8");
      case Type::boolean:
        return check_type(op, name, given_[i], ScalarType::Bool, "bool");
    }
  }

  Contiguous contiguous(Tensor (ModelType::*converted)(const Tensor&) const) const {
    Contiguous found;
    for (std::size_t i = 0; i < Count; ++i) {
      found.tensors[i] = declared_[i].type == Type::model ? (model_.*converted)(given_[i])
                                                          : torch::stable::contiguous(given_[i]);
      found.pointers[i] = found.tensors[i].const_data_ptr();
    }
    return found;
  }

  const Operand (&declared_)[Count];
  std::array<Tensor, Count> given_;
  ModelType model_;
  Axes axes_;
};

}  // namespace reformer::torch_binding
