// REFORMER_EXPORT marks what the shared library exports. All other symbols are hidden.
#pragma once

#define REFORMER_EXPORT __attribute__((visibility("default")))
