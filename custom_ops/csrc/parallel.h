// Parallel loops for kernels. The caller (torch, ONNX Runtime, a thread pool) provides the threads.
#pragma once

#include <cstddef>
#include <type_traits>

namespace reformer {

// run() calls task(argument, index) for every index below count, in any order, on any threads. It
// returns when all are done.
struct Parallel {
  using Task = void (*)(void* argument, std::size_t index);

  void* context;
  void (*run)(void* context, std::size_t count, Task task, void* argument);
};

// parallel_for(parallel, count, [&](std::size_t index) { ... });
template <typename Function>
void parallel_for(const Parallel& parallel, std::size_t count, Function&& function) {
  if (count == 1) return function(std::size_t{0});
  using Plain = std::remove_reference_t<Function>;
  parallel.run(
      parallel.context, count,
      [](void* argument, std::size_t index) { (*static_cast<Plain*>(argument))(index); },
      const_cast<std::remove_const_t<Plain>*>(&function));
}

}  // namespace reformer
