// Errors. The kinds are those of reformer_export and say who can act on an error.
#pragma once

#include <stdexcept>
#include <string>

#include "reformer/export.h"

namespace reformer {

enum class ErrorKind {
  usage,        // the request cannot be met: change an argument
  artifact,     // a folder is not an artifact, or its files differ from its manifest
  input,        // the model does not accept the token ids, the mask or the text
  inference,    // a runtime loaded the model and failed on a valid input
  unavailable,  // the requested runtime cannot run here
  native,       // the requested native operators are missing or do not load
  environment,  // an environment variable has an invalid value
  output,       // a file could not be written
  limit,        // a sequence has reached the longest that the model takes
};

// This library throws no other exception, except std::bad_alloc. what() is one line: what was
// asked, what was found, what to do.
class REFORMER_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  ErrorKind kind() const noexcept { return kind_; }
  // The exit code of a command: 2 for usage, else 1.
  int exit_code() const noexcept { return kind_ == ErrorKind::usage ? 2 : 1; }

 private:
  ErrorKind kind_;
};

}  // namespace reformer
