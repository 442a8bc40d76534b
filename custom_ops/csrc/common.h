// Storage types, errors and checked sizes, for all kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace reformer {

// The storage type of queries and values. Arithmetic is always fp32.
enum class DType { f32, f16 };

// Invalid arguments. Bindings convert it to their framework's error.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Returns a * b. Throws Error that names `what` if the product overflows.
inline std::int64_t checked_product(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error(std::string(what) + " is too large");
  return product;
}

}  // namespace reformer
