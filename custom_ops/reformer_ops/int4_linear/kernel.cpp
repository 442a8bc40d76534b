#include "int4_linear/kernel.h"

#include "int4_panels.h"
#include "int8_layer.h"
#include "isa.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
void run(const Int4LinearArguments& a, const Parallel& parallel) {
  const Int4Panels<RowNumber> weight{a.weight, a.step, a.depth};
  run_int8_layer<Stored, RowNumber>(a, weight, parallel);
}

}  // namespace

void int4_linear(const Int4LinearArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    run<float>(a, parallel);
  else
    run<Half>(a, parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH_INT8(int4_linear)

void int4_linear(const Int4LinearArguments& arguments, const Parallel& parallel) {
  active_int4_linear()(arguments, parallel);
}

}  // namespace reformer
#endif
