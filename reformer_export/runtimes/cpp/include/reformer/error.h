// What goes wrong, by who can act on it: the kinds and the sentences are those of reformer_export.
#pragma once

#include <stdexcept>
#include <string>

#include "reformer/export.h"

namespace reformer {

enum class ErrorKind {
  usage,        // the request cannot be met as it stands: another argument is needed
  artifact,     // a folder is no artifact, or its contents are not what its manifest says
  input,        // token ids, a mask or a text that the model does not take
  inference,    // a runtime that took the model could not run it on an input that fits
  unavailable,  // the runtime that was asked for cannot run here
  native,       // the native operators were asked for, and are not there or do not load
  environment,  // an environment variable has a value that nothing can be done with
  output,       // a file could not be written
};

// The only exception that leaves this library, apart from std::bad_alloc. what() is one line: what
// was asked, what was found, what to do.
class REFORMER_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  ErrorKind kind() const noexcept { return kind_; }
  // What a command returns: 2 for usage, else 1.
  int exit_code() const noexcept { return kind_ == ErrorKind::usage ? 2 : 1; }

 private:
  ErrorKind kind_;
};

}  // namespace reformer
