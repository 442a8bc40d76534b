// NumPy's files: .npy in, .npz out.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "reformer/tensor.h"

namespace reformer {

// Input `name` from a .npy file of [length] or [batch, length], as two axes. Allocates nothing for
// a header that claims more than the file holds. Throws Error (input).
Tensor read_npy(const std::filesystem::path& path, const std::string& name);

// Writes an archive that numpy.load opens, uncompressed as numpy.savez makes it. Throws
// std::system_error.
void write_npz(std::FILE* file, const NamedTensors& tensors);

}  // namespace reformer
