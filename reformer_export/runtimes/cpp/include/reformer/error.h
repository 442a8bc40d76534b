// The errors of this library. The kinds correspond to the error classes of reformer_export.
#pragma once

#include <stdexcept>
#include <string>

#include "reformer/export.h"

namespace reformer {

enum class ErrorKind {
  usage,        // the request is not possible with these arguments
  artifact,     // a folder is not an artifact, or its files differ from its manifest
  input,        // the model does not accept the token ids, the mask or the text
  inference,    // a runtime loaded the model and failed on a valid input
  unavailable,  // the requested runtime cannot run here
  native,       // the requested native operators are missing or do not load
  environment,  // an environment variable has an invalid value
  output,       // a file could not be written
  limit,        // a sequence has reached the maximum length of the model
};

// The library throws no other exceptions, except std::bad_alloc. what() is one line: it names the
// request, what was found, and what to do.
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
