// Reads the input files that the command line names, and writes the output file.
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
  std::optional<ByteCodec> codec;  // set if the input is a text
};

// Makes the checks that need no artifact: there is exactly one input, the folder of the output
// exists, and the output has this suffix. Throws Error (usage).
void check_files(const Arguments& arguments, const char* suffix);

// Throws Error (input).
Inputs read_inputs(const Arguments& arguments, const Artifact& artifact);

// Writes the file `path` atomically with `write`. Throws Error (output); then nothing was written.
void save(const std::filesystem::path& path, const std::function<void(std::FILE*)>& write);

}  // namespace reformer
