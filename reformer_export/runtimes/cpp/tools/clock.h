// A clock for measurements.
#pragma once

#include <chrono>

namespace reformer {

// Seconds since an arbitrary but fixed moment.
inline double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

}  // namespace reformer
