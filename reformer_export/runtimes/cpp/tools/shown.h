// Formats results as text.
#pragma once

#include <cstdio>
#include <string>

#include "messages.h"

namespace reformer {

// A line of a result: "runtime  onnxruntime ...".
inline std::string labelled(std::string label, const std::string& value) {
  label.resize(9, ' ');
  return label + one_line(value) + "\n";
}

// A number with `digits` digits after the decimal point.
inline std::string fixed(double number, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, number);
  return text;
}

}  // namespace reformer
