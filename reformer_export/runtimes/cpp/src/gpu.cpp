#include "gpu.h"

#include <dlfcn.h>

#include <algorithm>

#include "messages.h"

namespace reformer {
namespace {

constexpr const char* kDriver = "libcuda.so.1";
// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
constexpr int kMajor = 75, kMinor = 76;

}  // namespace

template <typename... Arguments>
void Gpu::call(const char* function, Arguments... arguments) const {
  using Function = int (*)(Arguments...);
  const auto found = reinterpret_cast<Function>(::dlsym(driver_, function));
  if (found == nullptr)
    fail(ErrorKind::inference, "the NVIDIA driver (", kDriver, ") has no ", function);
  if (const int status = found(arguments...); status != 0)
    fail(ErrorKind::inference, function, " failed with error ", std::to_string(status));
}

Gpu::Gpu(const std::string& purpose) {
  const auto none = [&](const auto&... reason) {
    fail(ErrorKind::unavailable, purpose, " needs an NVIDIA GPU, and ", reason...);
  };
  driver_ = ::dlopen(kDriver, RTLD_NOW | RTLD_LOCAL);  // stays loaded until the process ends
  if (driver_ == nullptr) none("the NVIDIA driver (", kDriver, ") is not found on this machine");
  int count = 0;
  try {
    call("cuInit", 0U);
    call("cuDeviceGetCount", &count);
  } catch (const Error& error) {
    none("the NVIDIA driver does not start here (", error.what(), ")");
  }
  if (count == 0) none("the NVIDIA driver sees none");
  char name[256] = {};
  int major = 0, minor = 0;
  call("cuDeviceGet", &device_, 0);
  call("cuDeviceGetName", &name[0], static_cast<int>(sizeof name), device_);
  call("cuDeviceGetAttribute", &major, kMajor, device_);
  call("cuDeviceGetAttribute", &minor, kMinor, device_);
  capability_ = 10 * major + minor;
  name_ = one_line(name) + " (SM" + std::to_string(capability_) + ")";
  call("cuDevicePrimaryCtxRetain", &context_, device_);
  try {
    const GpuTurn turn(*this);
    call("cuStreamCreate", &stream_, 0U);
  } catch (const Error&) {
    call("cuDevicePrimaryCtxRelease_v2", device_);
    throw;
  }
}

Gpu::~Gpu() {
  try {
    {
      const GpuTurn turn(*this);
      call("cuStreamDestroy_v2", stream_);
    }
    call("cuDevicePrimaryCtxRelease_v2", device_);
  } catch (const Error&) {  // at the end of the process, the driver may already have shut down
  }
}

void Gpu::synchronize() const { call("cuStreamSynchronize", stream_); }

GpuTurn::GpuTurn(const Gpu& gpu) : gpu_(gpu) { gpu.call("cuCtxPushCurrent_v2", gpu.context_); }

GpuTurn::~GpuTurn() {
  try {
    void* popped = nullptr;
    gpu_.call("cuCtxPopCurrent_v2", &popped);
  } catch (const Error&) {  // as above
  }
}

GpuMemory::~GpuMemory() {
  try {
    for (const std::uint64_t address : held_) gpu_.call("cuMemFree_v2", address);
  } catch (const Error&) {  // as above
  }
}

void* GpuMemory::allocate(std::size_t bytes) {
  std::uint64_t address = 0;
  held_.reserve(held_.size() + 1);
  gpu_.call("cuMemAlloc_v2", &address, std::max<std::size_t>(bytes, 1));
  held_.push_back(address);
  return reinterpret_cast<void*>(address);
}

void* GpuMemory::upload(const void* from, std::size_t bytes) {
  void* to = allocate(bytes);
  gpu_.call("cuMemcpyHtoDAsync_v2", reinterpret_cast<std::uint64_t>(to), from, bytes, gpu_.stream_);
  return to;
}

void GpuMemory::download(void* to, const void* from, std::size_t bytes) const {
  gpu_.call("cuMemcpyDtoHAsync_v2", to, reinterpret_cast<std::uint64_t>(from), bytes, gpu_.stream_);
}

}  // namespace reformer
