#include "series_signature.h"

#include <cmath>
#include <cstdio>

#include "messages.h"
#include "numbers.h"

namespace reformer {
namespace {

std::string axes_of(const TensorSpec& spec) {
  std::vector<std::string> axes;
  for (const auto& axis : spec.axes)
    axes.push_back(axis.index() == 0 ? std::get<0>(axis) : std::to_string(std::get<1>(axis)));
  return "[" + joined(axes) + "]";
}

// "name[row, step, column]" of an element of three axes.
std::string place(const std::string& name, const Shape& shape, std::size_t index) {
  const auto columns = static_cast<std::size_t>(shape[2]),
             steps = static_cast<std::size_t>(shape[1]);
  return name + "[" + std::to_string(index / columns / steps) + ", " +
         std::to_string(index / columns % steps) + ", " + std::to_string(index % columns) + "]";
}

std::string shown(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  return text;
}

// The numbers of an input as float32 of three axes.
Tensor numbers_of(const TensorSpec& spec, const Tensor& given) {
  const Shape& shape = given.shape();
  if (given.dtype() == DType::boolean)
    fail(ErrorKind::input, spec.name, " must be real numbers, found bool: cast to float32");
  if (shape.size() != 3)
    fail(ErrorKind::input, spec.name, " must be ", axes_of(spec), ", found shape ", listed(shape),
         shape.size() == 2 ? ": add the batch axis" : "");
  Tensor numbers(DType::float32, shape);
  auto* to = numbers.data<float>();
  for (std::size_t i = 0; i < given.size(); ++i) {
    const double number = number_at(given, i);
    to[i] = static_cast<float>(number);
    if (!std::isfinite(to[i]))
      fail(ErrorKind::input, place(spec.name, shape, i), " is ", shown(number),
           ", not a finite number of fp32: fill gaps and scale large numbers");
  }
  return numbers;
}

std::int64_t last_axis(const TensorSpec& spec) { return std::get<std::int64_t>(spec.axes.back()); }

Tensor checked_times(const Signature& signature, const TensorSpec& spec, const Tensor& given,
                     const Shape& series) {
  Tensor times = numbers_of(spec, given);
  const Shape wanted{series[0], series[1] + signature.horizon, last_axis(spec)};
  if (times.shape() != wanted)
    fail(ErrorKind::input, spec.name, " has shape ", listed(times.shape()),
         ", and this series needs ", listed(wanted),
         signature.horizon > 0
             ? ", of the series and of the " + std::to_string(signature.horizon) + " steps after it"
             : "");
  const std::size_t features = signature.time_tables.size();
  for (std::size_t i = 0; features > 0 && i < times.size(); ++i) {
    const float number = times.data<float>()[i];
    const auto size = static_cast<float>(signature.time_tables[i % features]);
    if (number < 0 || number >= size || number != std::floor(number))
      fail(ErrorKind::input, place(spec.name, wanted, i), " is ", shown(number),
           ", not a whole number in 0..", std::to_string(signature.time_tables[i % features] - 1));
  }
  return times;
}

}  // namespace

NamedTensors checked_series(const Signature& signature, const NamedTensors& given) {
  for (const TensorSpec& spec : signature.inputs)
    if (find(given, spec.name) == nullptr)
      fail(ErrorKind::input, spec.name, " is missing: give numbers as ", axes_of(spec));
  const TensorSpec& spec = signature.inputs.front();
  const Tensor series = numbers_of(spec, *find(given, kSeries));
  const Shape& shape = series.shape();
  if (shape[0] == 0) fail(ErrorKind::input, kSeries, " has an empty batch: give at least one row");
  if (shape[2] != last_axis(spec))
    fail(ErrorKind::input, kSeries, " has ", std::to_string(shape[2]),
         " channels, and the model takes ", std::to_string(last_axis(spec)));
  if (shape[1] < signature.min_length || shape[1] > signature.max_length)
    fail(ErrorKind::input, kSeries, " holds ", std::to_string(shape[1]), " steps; the model takes ",
         std::to_string(signature.min_length), " to ", std::to_string(signature.max_length),
         " steps");
  NamedTensors all{{kSeries, series}};
  if (signature.inputs.size() > 1)
    all.emplace_back(kTimeFeatures, checked_times(signature, signature.inputs[1],
                                                  *find(given, kTimeFeatures), shape));
  return all;
}

}  // namespace reformer
