// Between the part of the kernel that is compiled once and the one compiled per ISA.
#pragma once

#include "training/projections/kernel.h"

namespace reformer {

#define REFORMER_DECLARE(isa)                                                                 \
  namespace isa {                                                                             \
  void projections(const ProjectionsArguments& arguments, const std::vector<float*>& outputs, \
                   const Parallel& parallel);                                                 \
  void projections_backward(const ProjectionsArguments& arguments,                            \
                            const ProjectionsGradients& gradients, const Parallel& parallel); \
  }
REFORMER_DECLARE(baseline)
REFORMER_DECLARE(avx2)
REFORMER_DECLARE(avx512)
#undef REFORMER_DECLARE

}  // namespace reformer
