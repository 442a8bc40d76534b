// NVIDIA's driver, loaded for the first GPU kernel. CUDA is not linked, and its headers are not
// needed: on a CPU, CUDA is not used at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.h"

namespace reformer::cuda {

// The driver's CUstream, CUcontext, CUfunction and CUlibrary.
using Stream = void*;
using Context = void*;
using Function = void*;
using Library = void*;

// A GPU and its primary context, which CUDA's runtime also uses. The context is kept until the
// process ends, as in CUDA's runtime.
class Device {
 public:
  // The GPU with CUDA's number `index`. Throws Error if there is no driver or no such GPU.
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

// While this object exists, the calling thread uses the device's primary context.
class Turn {
 public:
  explicit Turn(const Device& device);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
};

// A cubin or PTX that is loaded on a GPU.
class Image {
 public:
  // `bytes` must outlive the image; PTX ends with a zero byte. Throws Error with the message of the
  // driver's compiler. A Turn must exist.
  Image(const std::string& name, const char* bytes);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  // Loads the kernel `entry` and allows it `shared_bytes` of shared memory. Throws Error.
  Function function(const char* entry, unsigned shared_bytes) const;

 private:
  // Throws Error with the compiler's message, unless the status is success.
  void check_loaded(int status) const;

  std::string name_;
  std::vector<char> log_;  // of the compiler, which may run after loading
  Library library_ = nullptr;
};

// Adds one launch to the stream. `arguments` are pointers to the values. Throws Error. A Turn must
// exist.
void launch(Function function, unsigned programs, unsigned threads, unsigned shared_bytes,
            Stream stream, void** arguments);

}  // namespace reformer::cuda
