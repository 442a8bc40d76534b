#include "training/dropout/kernel.h"

#include "isa.h"
#include "training/dropout/kernel_isa.h"

namespace reformer {

void drop(const Dropout& dropout, std::int64_t rows, std::int64_t columns, const float* input,
          float* output, const Parallel& parallel) {
  REFORMER_FOR_ISA(drop)(dropout, rows, columns, input, output, parallel);
}

}  // namespace reformer
