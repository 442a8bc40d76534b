// The files that the command line names: inputs to read, and the output to write.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>

#include "arguments.h"
#include "reformer/artifact.h"
#include "text.h"

namespace reformer {

struct Inputs {
  NamedTensors tensors;            // checked
  std::optional<ByteCodec> codec;  // of a text
};

// Checks what needs no artifact: that there is one input, and that the output can be written, which
// must have this suffix. Throws Error (usage).
void check_files(const Arguments& arguments, const char* suffix);

// Throws Error (input).
Inputs read_inputs(const Arguments& arguments, const Artifact& artifact);

// Calls `write` with a file that then is at `path`. Throws Error (output); then nothing was
// written.
void save(const std::filesystem::path& path, const std::function<void(std::FILE*)>& write);

}  // namespace reformer
