// Reads and writes .npy files of NumPy, and writes .npz files.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "reformer/tensor.h"

namespace reformer {

// Reads input `name` from a .npy file with shape [length] or [batch, length]; the result is
// [batch, length]. Before it allocates memory, it checks that the file holds as many bytes as the
// header claims. Throws Error (input).
Tensor read_npy(const std::filesystem::path& path, const std::string& name);

// Reads input `name` from a .npy file with shape [length], [length, channels] or [batch, length,
// channels]; the result is [batch, length, channels]. Otherwise like read_npy.
Tensor read_series_npy(const std::filesystem::path& path, const std::string& name);

// Writes one array, like numpy.save. Throws std::system_error.
void write_npy(std::FILE* file, const Tensor& tensor);

// Writes an uncompressed archive, like numpy.savez. Throws std::system_error.
void write_npz(std::FILE* file, const NamedTensors& tensors);

}  // namespace reformer
