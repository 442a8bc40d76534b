// Runs artifacts of reformer-export. The C interface is reformer/c_api.h.
#pragma once

#include "reformer/artifact.h"   // IWYU pragma: export
#include "reformer/error.h"      // IWYU pragma: export
#include "reformer/generator.h"  // IWYU pragma: export
#include "reformer/session.h"    // IWYU pragma: export
#include "reformer/tensor.h"     // IWYU pragma: export
