// What all kernels share: storage types, errors, checked sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace reformer {

// The type queries and values are stored in; arithmetic is fp32 throughout.
enum class DType { f32, f16 };

// Arguments no kernel can work on. Bindings turn it into their framework's error.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// a * b, or an Error naming `what` where the product leaves the range of std::ptrdiff_t.
inline std::int64_t checked_product(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error(std::string(what) + " is too large");
  return product;
}

}  // namespace reformer
