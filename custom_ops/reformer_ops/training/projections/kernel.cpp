#include "training/projections/kernel.h"

#include <string>

#include "common.h"
#include "isa.h"
#include "training/projections/kernel_isa.h"

namespace reformer {
namespace {

void check_hidden(const ProjectionsArguments& arguments) {
  if (arguments.hidden % 16 != 0)
    throw Error("projections takes a hidden size that is a multiple of 16; got " +
                std::to_string(arguments.hidden));
}

}  // namespace

void projections(const ProjectionsArguments& arguments, const std::vector<float*>& outputs,
                 const Parallel& parallel) {
  check_hidden(arguments);
  REFORMER_FOR_ISA(projections)(arguments, outputs, parallel);
}

void projections_backward(const ProjectionsArguments& arguments,
                          const ProjectionsGradients& gradients, const Parallel& parallel) {
  check_hidden(arguments);
  REFORMER_FOR_ISA(projections_backward)(arguments, gradients, parallel);
}

}  // namespace reformer
