// Reads and writes .npy files of NumPy, and writes .npz files.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "reformer/tensor.h"

namespace reformer {

// Reads input `name` from a .npy file with shape [length] or [batch, length]; the result has two
// axes. Checks that the file has as many bytes as its header says before it allocates memory.
// Throws Error (input).
Tensor read_npy(const std::filesystem::path& path, const std::string& name);

// Writes one array, like numpy.save. Throws std::system_error.
void write_npy(std::FILE* file, const Tensor& tensor);

// Writes an uncompressed archive, like numpy.savez. Throws std::system_error.
void write_npz(std::FILE* file, const NamedTensors& tensors);

}  // namespace reformer
