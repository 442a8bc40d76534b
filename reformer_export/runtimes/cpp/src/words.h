// For manifest.cpp and artifact.cpp, until they include messages.h and call in_quotes().
#pragma once

#include "messages.h"

namespace reformer {

inline std::string repr(std::string_view text) { return in_quotes(text); }

}  // namespace reformer
