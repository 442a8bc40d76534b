// The first NVIDIA GPU, through its driver: no CUDA toolkit is needed, for compiling neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct CUstream_st;

namespace reformer {

// A GPU, its primary context, which the CUDA runtime and all libraries share, and a stream.
class Gpu {
 public:
  // `purpose` ("running an engine") is what needs it. Throws Error (unavailable): there is no
  // driver, it does not start, or it sees no GPU.
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

  // A function of the driver; throws Error (inference) where it fails or is not there.
  template <typename... Arguments>
  void call(const char* function, Arguments... arguments) const;

  void* driver_ = nullptr;
  int device_ = 0;
  void* context_ = nullptr;
  CUstream_st* stream_ = nullptr;
  std::string name_;
  int capability_ = 0;
};

// While this lives, CUDA's calls of this thread go to that GPU.
class GpuTurn {
 public:
  explicit GpuTurn(const Gpu& gpu);
  ~GpuTurn();
  GpuTurn(const GpuTurn&) = delete;
  GpuTurn& operator=(const GpuTurn&) = delete;

 private:
  const Gpu& gpu_;
};

// The buffers of one run. In a GpuTurn; throws Error (inference).
class GpuMemory {
 public:
  explicit GpuMemory(const Gpu& gpu) : gpu_(gpu) {}
  ~GpuMemory();
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;

  void* allocate(std::size_t bytes);
  void* upload(const void* from, std::size_t bytes);  // `from` stays until the GPU has synchronized
  void download(void* to, const void* from, std::size_t bytes) const;

 private:
  const Gpu& gpu_;
  std::vector<std::uint64_t> held_;
};

}  // namespace reformer
