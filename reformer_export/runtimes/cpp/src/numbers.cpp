#include "numbers.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace reformer {
namespace {

double half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value;
  if (exponent == 31)
    value = fraction == 0 ? INFINITY : NAN;
  else
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

}  // namespace

double number_at(const Tensor& tensor, std::size_t index) {
  switch (tensor.dtype()) {
    case DType::float32:
      return tensor.data<float>()[index];
    case DType::float64:
      return tensor.data<double>()[index];
    case DType::float16:
      return half(tensor.data<std::uint16_t>()[index]);
    case DType::bfloat16: {
      const std::uint32_t bits = std::uint32_t{tensor.data<std::uint16_t>()[index]} << 16;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      return value;
    }
    case DType::int8:
      return tensor.data<std::int8_t>()[index];
    case DType::int16:
      return tensor.data<std::int16_t>()[index];
    case DType::int32:
      return tensor.data<std::int32_t>()[index];
    case DType::int64:
      return static_cast<double>(tensor.data<std::int64_t>()[index]);
    case DType::uint8:
      return tensor.data<std::uint8_t>()[index];
    case DType::uint16:
      return tensor.data<std::uint16_t>()[index];
    case DType::uint32:
      return tensor.data<std::uint32_t>()[index];
    case DType::uint64:
      return static_cast<double>(tensor.data<std::uint64_t>()[index]);
    case DType::boolean:
      break;
  }
  return NAN;
}

}  // namespace reformer
