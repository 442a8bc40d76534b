// Declarations of operators, and checks of operands, for all bindings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common.h"

namespace reformer {

using Shape = std::vector<std::int64_t>;

inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  return text + "]";
}

// The type of an operand. `model` is the type that the model's tensors have.
enum class Type { model, f32, i32, i8, u8, boolean };

// An input or output, as spec.py declares it.
struct Operand {
  const char* name;
  Type type;
  const char* names[5];  // of the axes; null after the last one

  struct AxisNames {
    const char* const* first;
    std::size_t count;

    const char* const* begin() const { return first; }
    const char* const* end() const { return first + count; }
    std::size_t size() const { return count; }
    const char* operator[](std::size_t axis) const { return first[axis]; }
  };

  AxisNames axes() const {
    std::size_t count = 0;
    while (count < std::size(names) && names[count] != nullptr) ++count;
    return {names, count};
  }
};

// An attribute, as spec.py declares it. A number is an fp32.
struct Attribute {
  enum class Kind { integer, integers, number };
  const char* name;
  Kind kind = Kind::integer;
};

// The sizes of one call's axes. The same name means the same size for all operands.
class Axes {
 public:
  explicit Axes(const char* op) : op_(op) { sizes_.reserve(16); }

  // Throws Error if `shape` does not fit. The messages equal those of Python's check_operands.
  template <typename Names = std::initializer_list<const char*>>
  void check(const char* operand, const Names& names, const Shape& shape) {
    // Messages are built only for an error: this code runs at every call of every operator.
    const auto refuse = [&](const std::string& why) {
      std::string expected = std::string(op_) + " takes " + operand + " as [";
      for (const char* name : names)
        expected += (name == *std::begin(names) ? "" : ", ") + std::string(name);
      throw Error(expected + "]" + why + "; got shape " + text_of(shape));
    };
    if (shape.size() != static_cast<std::size_t>(std::distance(std::begin(names), std::end(names))))
      refuse("");
    const std::int64_t* size = shape.data();
    for (const char* name : names) {
      if (*size < 1) refuse(" with no axis empty");
      const std::int64_t known = find_or_add(name, *size);
      if (known != *size)
        refuse(std::string(" with ") + name + " = " + std::to_string(known) +
               " as in the inputs before it");
      ++size;
    }
  }

  // The size of an axis of the operands that were checked; 0 if none has it.
  std::int64_t operator[](const char* name) { return find_or_add(name, 0); }

 private:
  std::int64_t find_or_add(std::string_view name, std::int64_t size) {
    for (const auto& [known, known_size] : sizes_)
      if (known == name) return known_size;
    sizes_.emplace_back(name, size);
    return size;
  }

  const char* op_;
  std::vector<std::pair<std::string_view, std::int64_t>> sizes_;
};

}  // namespace reformer
