// A libcuda.so.1 for machines without a GPU: the functions that csrc/cuda/driver.cpp calls.
//
// GPU memory is the memory of the process. Calls are logged, and a callback executes the launches.
// The stand-in is as strict as the driver, or stricter: what the driver leaves undefined is an
// error here. It remembers released handles, so that their use is detected.
#include "stand_in.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// CUresult.
enum Status {
  kSuccess = 0,
  kInvalidValue = 1,
  kNotInitialized = 3,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinaryForGpu = 209,
  kInvalidPtx = 218,
  kInvalidHandle = 400,
  kNotFound = 500,
};

const std::map<int, const char*> kTexts = {
    {kSuccess, "no error"},
    {kInvalidValue, "invalid argument"},
    {2, "out of memory"},
    {kNotInitialized, "initialization error"},
    {100, "no CUDA-capable device is detected"},
    {kInvalidDevice, "invalid device ordinal"},
    {kInvalidImage, "device kernel image is invalid"},
    {kInvalidContext, "invalid device context"},
    {kNoBinaryForGpu, "no kernel image is available for execution on the device"},
    {kInvalidPtx, "a PTX JIT compilation failed"},
    {222, "the provided PTX was compiled with an unsupported toolchain."},
    {kInvalidHandle, "invalid resource handle"},
    {kNotFound, "named symbol not found"},
    {719, "unspecified launch failure"},
    {999, "unknown error"},
};

constexpr unsigned kSharedWithoutAsking = 48 * 1024, kMostShared = 227 * 1024;

struct Context {
  int gpu;
};

struct Image {
  std::string bytes;
  bool is_ptx = false;
  int target = 0;
  bool of_one_gpu = false;
  bool loaded = true;
  char* log = nullptr;
  std::size_t log_bytes = 0;
};

struct Kernel {
  Image* image;
  std::string entry;
};

struct Function {
  Kernel* kernel;
  Context* context;
  unsigned most_shared = kSharedWithoutAsking;
};

struct Failure {
  int code, after;
};

// Everything except the stacks of contexts, which belong to the threads. No object is ever freed.
struct State {
  std::mutex mutex;
  bool initialized = false;
  std::vector<int> capabilities{80};
  std::map<std::string, Failure> failures;
  std::string log;
  bool compile_late = false;
  int (*execute)(const StandInLaunch*) = nullptr;
  std::map<int, Context*> primary;
  std::deque<Context> contexts;
  std::deque<Image> images;
  std::deque<Kernel> kernels;
  std::deque<Function> functions;
  int loaded = 0, pushed = 0;
};

State& state() {
  static State& all = *new State;  // used until the process ends
  return all;
}

thread_local std::vector<Context*> stack;

template <typename Record>
Record* find(std::deque<Record>& records, const void* handle) {
  for (Record& record : records)
    if (&record == handle) return &record;
  return nullptr;
}

// Logs a call. Returns the status with which it must fail, or kSuccess.
int called(const char* name, const std::string& details = "") {
  State& all = state();
  all.log += name + (details.empty() ? "" : " " + details) + "\n";
  const auto failure = all.failures.find(name);
  if (failure != all.failures.end() && failure->second.after-- <= 0) return failure->second.code;
  if (!all.initialized && std::strcmp(name, "cuInit") != 0) return kNotInitialized;
  return kSuccess;
}

template <typename Number>
Number number_at(const char* bytes, std::size_t place) {
  Number number;
  std::memcpy(&number, bytes + place, sizeof number);
  return number;
}

bool is_elf(const char* bytes) { return std::memcmp(bytes, "\177ELF", 4) == 0; }

// Size of a 64-bit ELF file: the end of its tables, or of the last section.
std::size_t elf_bytes(const char* bytes) {
  const auto segments = number_at<std::uint64_t>(bytes, 32);
  const auto sections = number_at<std::uint64_t>(bytes, 40);
  const auto segment_bytes = number_at<std::uint16_t>(bytes, 54);
  const auto segment_count = number_at<std::uint16_t>(bytes, 56);
  const auto section_bytes = number_at<std::uint16_t>(bytes, 58);
  const auto section_count = number_at<std::uint16_t>(bytes, 60);
  std::uint64_t end = 64;
  end = std::max(end, segments + std::uint64_t{segment_bytes} * segment_count);
  end = std::max(end, sections + std::uint64_t{section_bytes} * section_count);
  for (int i = 0; i < section_count; ++i) {
    const char* section = bytes + sections + std::size_t{section_bytes} * i;
    if (number_at<std::uint32_t>(section, 4) == 8) continue;  // takes no room in the file
    end = std::max(end,
                   number_at<std::uint64_t>(section, 24) + number_at<std::uint64_t>(section, 32));
  }
  return end;
}

// Reads which GPU the image is for. Returns false if it is not an image.
bool read_target(Image& image) {
  const std::string& bytes = image.bytes;
  if (image.is_ptx) {
    const std::string mark = ".target sm_";
    const std::size_t place = bytes.find(mark);
    if (place == std::string::npos) return false;
    const char* digits = bytes.c_str() + place + mark.size();
    char* end = nullptr;
    image.target = static_cast<int>(std::strtol(digits, &end, 10));
    image.of_one_gpu = *end == 'a';
    return end != digits;
  }
  // The position of the target depends on the version of the format.
  const auto flags = number_at<std::uint32_t>(bytes.data(), 48);
  image.target = static_cast<int>((bytes[8] < 8 ? flags : flags >> 8) & 0xff);
  return true;
}

bool has_entry(const Image& image, const std::string& entry) {
  if (image.is_ptx) return image.bytes.find(".entry " + entry + "(") != std::string::npos;
  return image.bytes.find(std::string(".text.") + entry + '\0') != std::string::npos;
}

int compile(const Image& image, int capability) {
  if (!image.is_ptx) {
    const bool runs = image.target / 10 == capability / 10 && image.target <= capability;
    return runs ? kSuccess : kNoBinaryForGpu;
  }
  if (image.bytes.find("error") != std::string::npos) {  // the mark of PTX that must not compile
    std::string text = "ptxas stand-in.ptx, line 1; error   :\nas the test has it\n";
    if (image.log != nullptr && image.log_bytes > 0) {
      text.resize(std::min(text.size(), image.log_bytes - 1));
      std::memcpy(image.log, text.c_str(), text.size() + 1);
    }
    return kInvalidPtx;
  }
  const bool runs = image.of_one_gpu ? image.target == capability : image.target <= capability;
  return runs ? kSuccess : kInvalidPtx;
}

int capability_of(const Context& context) { return state().capabilities.at(context.gpu); }

}  // namespace

// -- what tests call ------------------------------------------------------------------------------

EXPORT void stand_in_reset(int gpus, const int* capabilities) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().initialized = false;
  state().capabilities.assign(capabilities, capabilities + gpus);
  state().failures.clear();
  state().log.clear();
  state().compile_late = false;
  state().execute = nullptr;
}

EXPORT void stand_in_fail(const char* name, int code, int after) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().failures[name] = {code, after};
}

EXPORT void stand_in_take_back() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  for (Image& image : state().images) image.loaded = false;
  state().loaded = state().pushed = 0;
  stack.clear();
}

EXPORT void stand_in_compile_late(int late) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().compile_late = late != 0;
}

EXPORT std::size_t stand_in_log(char* buffer, std::size_t size) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const std::string& log = state().log;
  if (size > log.size()) std::memcpy(buffer, log.c_str(), log.size() + 1);
  return log.size() + 1;
}

EXPORT void stand_in_on_launch(int (*execute)(const StandInLaunch*)) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().execute = execute;
}

EXPORT int stand_in_images() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().loaded;
}

EXPORT int stand_in_contexts() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  return state().pushed;
}

// -- the driver -----------------------------------------------------------------------------------

EXPORT int cuInit(unsigned flags) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuInit")) return status;
  if (flags != 0) return kInvalidValue;
  state().initialized = true;
  return kSuccess;
}

EXPORT int cuGetErrorString(int status, const char** text) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  const int failure = called("cuGetErrorString");
  const auto found = kTexts.find(status);
  *text = found == kTexts.end() || failure > 100 ? nullptr : found->second;
  return *text == nullptr ? kInvalidValue : kSuccess;  // it also answers before cuInit
}

EXPORT int cuDeviceGetCount(int* count) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuDeviceGetCount")) return status;
  *count = static_cast<int>(state().capabilities.size());
  return kSuccess;
}

EXPORT int cuDeviceGet(int* device, int index) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuDeviceGet")) return status;
  if (index < 0 || index >= static_cast<int>(state().capabilities.size())) return kInvalidDevice;
  *device = index + 40;  // a handle, not an index
  return kSuccess;
}

EXPORT int cuDeviceGetName(char* name, int size, int device) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuDeviceGetName")) return status;
  const std::string text = "Stand-in " + std::to_string(device - 40);
  if (size <= static_cast<int>(text.size())) return kInvalidValue;
  std::memcpy(name, text.c_str(), text.size() + 1);
  return kSuccess;
}

EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuDeviceGetAttribute", std::to_string(attribute))) return status;
  const int index = device - 40;
  if (index < 0 || index >= static_cast<int>(state().capabilities.size())) return kInvalidDevice;
  if (attribute != 75 && attribute != 76) return kInvalidValue;
  const int capability = state().capabilities[index];
  *value = attribute == 75 ? capability / 10 : capability % 10;
  return kSuccess;
}

EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuDevicePrimaryCtxRetain")) return status;
  const int index = device - 40;
  if (index < 0 || index >= static_cast<int>(state().capabilities.size())) return kInvalidDevice;
  Context*& primary = state().primary[index];
  if (primary == nullptr) primary = &state().contexts.emplace_back(Context{index});
  *context = primary;
  return kSuccess;
}

EXPORT int cuCtxPushCurrent_v2(void* context) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuCtxPushCurrent")) return status;
  Context* pushed = find(state().contexts, context);
  if (pushed == nullptr) return kInvalidContext;
  stack.push_back(pushed);
  ++state().pushed;
  return kSuccess;
}

EXPORT int cuCtxPopCurrent_v2(void** context) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuCtxPopCurrent")) return status;
  if (stack.empty()) return kInvalidContext;
  *context = stack.back();
  stack.pop_back();
  --state().pushed;
  return kSuccess;
}

#ifdef STAND_IN_OLD  // a driver from before CUDA 12.0
#define cuLibraryLoadData not_yet_cuLibraryLoadData
#endif
EXPORT int cuLibraryLoadData(void** library, const void* code, int* options, void** values,
                             unsigned count, int* library_options, void** library_values,
                             unsigned library_count) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuLibraryLoadData")) return status;
  if (code == nullptr || library_count != 0 || library_options != nullptr ||
      library_values != nullptr)
    return kInvalidValue;
  if (stack.empty()) return kInvalidContext;  // stricter: the stand-in requires a context
  Image image;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == 5)
      image.log = static_cast<char*>(values[i]);
    else if (options[i] == 6)
      image.log_bytes = reinterpret_cast<std::size_t>(values[i]);
    else
      return kInvalidValue;
  }
  const auto* bytes = static_cast<const char*>(code);
  image.is_ptx = !is_elf(bytes);
  image.bytes = image.is_ptx ? std::string(bytes) : std::string(bytes, elf_bytes(bytes));
  if (!read_target(image)) return kInvalidImage;
  if (!state().compile_late)
    if (const int status = compile(image, capability_of(*stack.back()))) return status;
  *library = &state().images.emplace_back(image);
  ++state().loaded;
  return kSuccess;
}

EXPORT int cuLibraryUnload(void* library) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuLibraryUnload")) return status;
  Image* image = find(state().images, library);
  if (image == nullptr || !image->loaded) return kInvalidHandle;
  image->loaded = false;
  --state().loaded;
  return kSuccess;
}

EXPORT int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuLibraryGetKernel", name)) return status;
  Image* image = find(state().images, library);
  if (image == nullptr || !image->loaded) return kInvalidHandle;
  if (!has_entry(*image, name)) return kNotFound;
  *kernel = &state().kernels.emplace_back(Kernel{image, name});
  return kSuccess;
}

EXPORT int cuKernelGetFunction(void** function, void* kernel) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuKernelGetFunction")) return status;
  Kernel* found = find(state().kernels, kernel);
  if (found == nullptr || !found->image->loaded) return kInvalidHandle;
  if (stack.empty()) return kInvalidContext;
  if (const int status = compile(*found->image, capability_of(*stack.back()))) return status;
  *function = &state().functions.emplace_back(Function{found, stack.back()});
  return kSuccess;
}

EXPORT int cuFuncSetAttribute(void* function, int attribute, int value) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (const int status = called("cuFuncSetAttribute", std::to_string(value))) return status;
  Function* found = find(state().functions, function);
  if (found == nullptr || !found->kernel->image->loaded) return kInvalidHandle;
  if (attribute != 8 || value < 0 || static_cast<unsigned>(value) > kMostShared)
    return kInvalidValue;
  found->most_shared = static_cast<unsigned>(value);
  return kSuccess;
}

EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                          unsigned threads_y, unsigned threads_z, unsigned shared_bytes,
                          void* stream, void** arguments, void** extra) {
  StandInLaunch launch{};
  int (*execute)(const StandInLaunch*) = nullptr;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    Function* found = find(state().functions, function);
    const std::string entry = found == nullptr ? "of nothing" : found->kernel->entry;
    if (const int status = called("cuLaunchKernel", entry)) return status;
    if (found == nullptr || !found->kernel->image->loaded) return kInvalidHandle;
    if (stack.empty() || stack.back() != found->context) return kInvalidContext;
    if (x == 0 || x > 0x7fffffff || y != 1 || z != 1 || threads == 0 || threads > 1024 ||
        threads % 32 != 0 || threads_y != 1 || threads_z != 1 ||
        shared_bytes > found->most_shared || arguments == nullptr || extra != nullptr)
      return kInvalidValue;
    const Image& image = *found->kernel->image;  // is never moved or freed
    launch = {found->kernel->entry.c_str(),
              image.bytes.data(),
              image.bytes.size(),
              found->context->gpu,
              x,
              threads,
              shared_bytes,
              stream,
              arguments};
    execute = state().execute;
  }
  // Without the lock: the callback may call the stand-in, or wait for a thread that does.
  return execute == nullptr ? kSuccess : execute(&launch);
}
