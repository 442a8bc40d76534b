#include "cuda/driver.h"

#include <dlfcn.h>
#include <string.h>

#include <map>
#include <mutex>

namespace reformer::cuda {
namespace {

constexpr const char* kDriver = "libcuda.so.1";

// Numbers of cuda.h, which have not changed since CUDA 12.0.
constexpr int kSuccess = 0, kInvalidImage = 200, kNoBinary = 209, kUnsupportedPtx = 222;
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;  // CU_DEVICE_ATTRIBUTE_...
constexpr int kMaxDynamicShared = 8;                         // CU_FUNC_ATTRIBUTE_...
constexpr int kErrorLog = 5, kErrorLogBytes = 6;             // CU_JIT_...
constexpr unsigned kSharedWithoutAsking = 48 * 1024;
constexpr std::size_t kLogBytes = 4096;

// The functions of the driver that we call.
struct Calls {
  int (*cuInit)(unsigned);
  int (*cuGetErrorString)(int, const char**);
  int (*cuDeviceGetCount)(int*);
  int (*cuDeviceGet)(int*, int);
  int (*cuDeviceGetName)(char*, int, int);
  int (*cuDeviceGetAttribute)(int*, int, int);
  int (*cuDevicePrimaryCtxRetain)(Context*, int);
  int (*cuCtxPushCurrent_v2)(Context);
  int (*cuCtxPopCurrent_v2)(Context*);
  int (*cuLibraryLoadData)(Library*, const void*, int*, void**, unsigned, int*, void**, unsigned);
  int (*cuLibraryUnload)(Library);
  int (*cuLibraryGetKernel)(void**, Library, const char*);
  int (*cuKernelGetFunction)(Function*, void*);
  int (*cuFuncSetAttribute)(Function, int, int);
  int (*cuLaunchKernel)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                        unsigned, Stream, void**, void**);
};

template <typename Call>
void find(void* driver, const char* name, Call& call) {
  call = reinterpret_cast<Call>(::dlsym(driver, name));
  if (call == nullptr)
    throw Error(std::string("the NVIDIA driver has no ") + name +
                ": install a driver for CUDA 12.0 or later");
}

Calls load() {
  void* driver = ::dlopen(kDriver, RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr)
    throw Error(std::string("the NVIDIA driver (") + kDriver + ") is not found on this machine");
  Calls calls{};
#define REFORMER_FIND(name) find(driver, #name, calls.name)
  REFORMER_FIND(cuInit);
  REFORMER_FIND(cuGetErrorString);
  REFORMER_FIND(cuDeviceGetCount);
  REFORMER_FIND(cuDeviceGet);
  REFORMER_FIND(cuDeviceGetName);
  REFORMER_FIND(cuDeviceGetAttribute);
  REFORMER_FIND(cuDevicePrimaryCtxRetain);
  REFORMER_FIND(cuCtxPushCurrent_v2);
  REFORMER_FIND(cuCtxPopCurrent_v2);
  REFORMER_FIND(cuLibraryLoadData);
  REFORMER_FIND(cuLibraryUnload);
  REFORMER_FIND(cuLibraryGetKernel);
  REFORMER_FIND(cuKernelGetFunction);
  REFORMER_FIND(cuFuncSetAttribute);
  REFORMER_FIND(cuLaunchKernel);
#undef REFORMER_FIND
  return calls;
}

const Calls& driver() {
  static const Calls calls = load();
  return calls;
}

std::string describe(int status) {
  const char* text = nullptr;
  if (driver().cuGetErrorString(status, &text) != kSuccess || text == nullptr)
    text = "unknown error";
  return "error " + std::to_string(status) + ", " + text;
}

void check(int status, const std::string& what) {
  if (status != kSuccess) throw Error("the NVIDIA driver cannot " + what + ": " + describe(status));
}

}  // namespace

const Device& Device::get(int index) {
  static std::mutex mutex;
  // Never destroyed: threads may still use them at the end of the process.
  static auto& devices = *new std::map<int, std::unique_ptr<const Device>>;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& found = devices[index];
  if (found == nullptr) found.reset(new Device(index));
  return *found;
}

Device::Device(int index) : index_(index) {
  check(driver().cuInit(0), "start");
  int count = 0;
  check(driver().cuDeviceGetCount(&count), "list its GPUs");
  if (index < 0 || index >= count)
    throw Error("there is no GPU " + std::to_string(index) + ": the NVIDIA driver sees " +
                std::to_string(count));
  const std::string which = "GPU " + std::to_string(index);
  char name[256] = {};
  int major = 0, minor = 0;
  check(driver().cuDeviceGet(&handle_, index), "open " + which);
  check(driver().cuDeviceGetName(name, static_cast<int>(sizeof name), handle_), "name " + which);
  check(driver().cuDeviceGetAttribute(&major, kCapabilityMajor, handle_), "describe " + which);
  check(driver().cuDeviceGetAttribute(&minor, kCapabilityMinor, handle_), "describe " + which);
  check(driver().cuDevicePrimaryCtxRetain(&context_, handle_), "use " + which);
  name_ = name;
  capability_ = 10 * major + minor;
}

Turn::Turn(const Device& device) {
  check(driver().cuCtxPushCurrent_v2(device.context_), "enter the context of the GPU");
}

Turn::~Turn() {
  Context popped = nullptr;
  driver().cuCtxPopCurrent_v2(&popped);
}

Image::Image(const std::string& name, const char* bytes) : name_(name), log_(kLogBytes) {
  int options[] = {kErrorLog, kErrorLogBytes};
  void* values[] = {log_.data(), reinterpret_cast<void*>(kLogBytes)};
  check_loaded(
      driver().cuLibraryLoadData(&library_, bytes, options, values, 2, nullptr, nullptr, 0));
}

void Image::check_loaded(int status) const {
  if (status == kSuccess) return;
  std::string reason = describe(status);
  std::string log(log_.data(), ::strnlen(log_.data(), log_.size()));
  for (char& c : log)  // messages must be one line
    if (c == '\n' || c == '\r') c = ' ';
  while (!log.empty() && log.back() == ' ') log.pop_back();
  if (!log.empty()) reason += " (" + log + ")";
  if (status == kInvalidImage || status == kNoBinary || status == kUnsupportedPtx)
    reason += "; a later driver may take it";
  throw Error("the NVIDIA driver cannot load the kernel " + name_ + ": " + reason);
}

Image::~Image() {
  // May fail at the end of the process, if the driver is gone already.
  driver().cuLibraryUnload(library_);
}

Function Image::function(const char* entry, unsigned shared_bytes) const {
  void* kernel = nullptr;
  Function function = nullptr;
  check(driver().cuLibraryGetKernel(&kernel, library_, entry),
        std::string("find ") + entry + " in the kernel " + name_);
  // Loads the kernel now: a kernel that is loaded at its first launch cannot be captured in a CUDA
  // graph. Some drivers compile PTX only here.
  check_loaded(driver().cuKernelGetFunction(&function, kernel));
  if (shared_bytes > kSharedWithoutAsking)
    check(driver().cuFuncSetAttribute(function, kMaxDynamicShared, static_cast<int>(shared_bytes)),
          "give the kernel " + name_ + " " + std::to_string(shared_bytes) +
              " bytes of shared memory");
  return function;
}

void launch(Function function, unsigned programs, unsigned threads, unsigned shared_bytes,
            Stream stream, void** arguments) {
  check(driver().cuLaunchKernel(function, programs, 1, 1, threads, 1, 1, shared_bytes, stream,
                                arguments, nullptr),
        "launch a kernel");
}

}  // namespace reformer::cuda
