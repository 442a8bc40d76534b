// Activation functions by name.
#pragma once

#include <string>

#include "common.h"

namespace reformer {

enum class Activation { linear, relu, gelu, gelu_tanh, silu };

// Throws Error for an unknown name.
inline Activation activation_from(const std::string& name) {
  if (name == "linear") return Activation::linear;
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "silu") return Activation::silu;
  throw Error("there is no activation " + name +
              ": it is one of linear, relu, gelu, gelu_tanh and silu");
}

}  // namespace reformer
