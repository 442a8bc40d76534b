#include "int8_linear/kernel.h"

#include "int8_layer.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
void run(const Int8LinearArguments& a, const Parallel& parallel) {
  run_int8_layer<Stored, RowNumber>(a, Int8Panels<RowNumber>{a.weight, a.depth}, parallel);
}

}  // namespace

void int8_linear(const Int8LinearArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH_INT8(int8_linear)

void int8_linear(const Int8LinearArguments& arguments, const Parallel& parallel) {
  active_int8_linear()(arguments, parallel);
}

}  // namespace reformer
#endif
