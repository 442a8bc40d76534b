// Uses the first NVIDIA GPU through its driver. Compiling and running need no CUDA toolkit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct CUstream_st;

namespace reformer {

// A GPU, its primary context (which the CUDA runtime and all libraries share), and a stream.
class Gpu {
 public:
  // `purpose` ("running an engine") is for the message. Throws Error (unavailable) if there is no
  // driver, if it does not start, or if it finds no GPU.
  explicit Gpu(const std::string& purpose);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const std::string& name() const noexcept { return name_; }  // "NVIDIA L4 (SM89)"
  int capability() const noexcept { return capability_; }     // 89 for 8.9
  CUstream_st* stream() const noexcept { return stream_; }
  // Throws Error (inference).
  void synchronize() const;

 private:
  friend class GpuTurn;
  friend class GpuMemory;

  // Calls a function of the driver. Throws Error (inference) if it fails or does not exist.
  template <typename... Arguments>
  void call(const char* function, Arguments... arguments) const;

  void* driver_ = nullptr;
  int device_ = 0;
  void* context_ = nullptr;
  CUstream_st* stream_ = nullptr;
  std::string name_;
  int capability_ = 0;
};

// While this object exists, the CUDA calls of this thread go to `gpu`.
class GpuTurn {
 public:
  explicit GpuTurn(const Gpu& gpu);
  ~GpuTurn();
  GpuTurn(const GpuTurn&) = delete;
  GpuTurn& operator=(const GpuTurn&) = delete;

 private:
  const Gpu& gpu_;
};

// The buffers of one run. A GpuTurn must exist. Throws Error (inference).
class GpuMemory {
 public:
  explicit GpuMemory(const Gpu& gpu) : gpu_(gpu) {}
  ~GpuMemory();
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;

  void* allocate(std::size_t bytes);
  void* upload(const void* from, std::size_t bytes);  // `from` must stay valid until synchronize()
  void download(void* to, const void* from, std::size_t bytes) const;

 private:
  const Gpu& gpu_;
  std::vector<std::uint64_t> held_;
};

}  // namespace reformer
