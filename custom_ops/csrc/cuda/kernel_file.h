// model.cuda: the programs that compute our operators on GPUs, and the kernels that they launch.
//
// The file has the layout of safetensors: eight bytes with the size of the header; the header in
// JSON; the data. Each kernel is a tensor of bytes, `<image>.cubin` or `<image>.ptx`. The programs
// are JSON in the header's metadata. reformer_export/exporters/cuda/export.py writes the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common.h"

namespace reformer::cuda {

constexpr const char* kTooLong = "the sequences are too long for a GPU: split the batch";

// A number that depends on the input: `times * batch * ceil(length * multiplier / divisor)`.
struct Amount {
  std::int64_t times, multiplier, divisor;
  // Throws Error if the number is above 2**62.
  std::int64_t of(std::int64_t batch, std::int64_t length) const;
};

struct Launch {
  std::string entry, image;
  Amount programs;
  unsigned threads, shared_bytes;
  std::vector<std::string> arguments;  // buffers by name, "length", and "" for a null pointer
  std::int64_t shortest, longest;      // range of sequence lengths for this launch
};

// How one operator is computed on the GPUs of one target. Any two programs differ in at least one
// field other than scratch and launches.
struct Program {
  std::string op, dtype;
  std::int64_t version;
  int target;     // 90 for sm_90
  bool portable;  // true if its PTX runs on later GPUs, and its cubin on later GPUs of the same
                  // generation
  std::map<std::string, std::vector<std::int64_t>> attributes;  // a float: its fp32 bits
  std::map<std::string, std::int64_t> sizes;
  std::map<std::string, Amount> scratch;  // in bytes
  std::vector<Launch> launches;
};

class KernelFile {
 public:
  // Reads the whole file. Throws Error if it is missing, damaged, or of a later release.
  explicit KernelFile(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<Program>& programs() const { return programs_; }
  // True if there is a program for this version of the operator and this type, for any GPU.
  bool has(const std::string& op, std::int64_t version, const std::string& dtype) const;
  // The bytes of "<image>.cubin" or "<image>.ptx", followed by a zero byte. Throws Error if there
  // are none.
  const char* bytes(const std::string& name) const;

 private:
  std::string path_;
  std::vector<Program> programs_;
  std::map<std::string, std::string> images_;
};

}  // namespace reformer::cuda
