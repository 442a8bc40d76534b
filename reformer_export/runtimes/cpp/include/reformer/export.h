// REFORMER_EXPORT marks the symbols that the shared library exports. All others are hidden.
#pragma once

#define REFORMER_EXPORT __attribute__((visibility("default")))
