// NVIDIA's driver, loaded when the first kernel for a GPU is wanted. Nothing of CUDA is linked, and
// no header of CUDA is needed: whoever runs on a CPU never meets it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.h"

namespace reformer::cuda {

// What the driver calls CUstream, CUcontext, CUfunction and CUlibrary.
using Stream = void*;
using Context = void*;
using Function = void*;
using Library = void*;

// A GPU and its primary context, the one that CUDA's runtime works in. Kept for as long as the
// process lives, as CUDA's runtime does.
class Device {
 public:
  // The GPU that CUDA numbers `index`. Throws Error: there is no driver, or no such GPU.
  static const Device& get(int index);

  int index() const { return index_; }
  // 90 for compute capability 9.0.
  int capability() const { return capability_; }
  const std::string& name() const { return name_; }

 private:
  friend class Turn;
  explicit Device(int index);

  int index_;
  int capability_ = 0;
  std::string name_;
  int handle_ = 0;
  Context context_ = nullptr;
};

// While it lives, the calling thread works in the device's primary context.
class Turn {
 public:
  explicit Turn(const Device& device);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
};

// A cubin or PTX that was loaded onto a GPU.
class Image {
 public:
  // `bytes` must outlive the image; PTX ends in a zero byte. Throws Error with what the driver's
  // compiler says. A Turn must be held.
  Image(const std::string& name, const char* bytes);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // The kernel `entry`, loaded, with permission for that much shared memory. Throws Error.
  Function function(const char* entry, unsigned shared_bytes) const;

 private:
  // Throws Error, with what the compiler says, unless the status is success.
  void check_loaded(int status) const;

  std::string name_;
  std::vector<char> log_;  // of the compiler, which may run later than we load
  Library library_ = nullptr;
};

// Puts one launch into the stream. `arguments` are pointers to the values. Throws Error. A Turn
// must be held.
void launch(Function function, unsigned programs, unsigned threads, unsigned shared_bytes,
            Stream stream, void** arguments);

}  // namespace reformer::cuda
