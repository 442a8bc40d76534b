#include "onnxruntime_library.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <vector>

#include "library_search.h"
#include "messages.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "libonnxruntime.so";
// The API version that we request. We call no newer functions, so headers of later releases also
// work.
constexpr std::uint32_t kApiVersion = 21;
static_assert(ORT_API_VERSION >= kApiVersion);

// The library at the path `given`, or in the folder `given`; `by` is the option that named it.
fs::path named_library(const fs::path& given, const char* by) {
  std::error_code error;
  const fs::path path = fs::is_directory(given, error) ? library_in(given, kName) : given;
  if (!fs::is_regular_file(path, error))
    fail(ErrorKind::unavailable, by, " names ", given.string(), ", where there is no ", kName);
  return fs::canonical(path);
}

// The library in our own folders; empty if the system must search for it.
fs::path find_library() {
  for (const fs::path& folder : own_folders())
    if (const fs::path path = library_in(folder, kName); !path.empty()) return fs::canonical(path);
  return {};
}

fs::path library_to_load(const Options& options) {
  if (!options.onnxruntime.empty()) return named_library(options.onnxruntime, "--onnxruntime");
  if (const std::string given = environment("REFORMER_ONNXRUNTIME"); !given.empty())
    return named_library(given, "REFORMER_ONNXRUNTIME");
  return find_library();
}

void* open_library(fs::path& path) {
  if (!path.empty()) {
    if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    fail(ErrorKind::unavailable, path.string(), " does not load: ", one_line(::dlerror()));
  }
  for (const char* name : {"libonnxruntime.so.1", kName}) {
    if (void* handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
      path = name;
      return handle;
    }
  }
  fail(ErrorKind::unavailable, "there is no ", kName, " in ", alternatives(own_folders()),
       ", and the system does not find one: name it with --onnxruntime or REFORMER_ONNXRUNTIME");
}

OnnxRuntimeLibrary load(fs::path path) {
  void* handle = open_library(path);  // stays loaded until the process ends
  using GetBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetBase>(::dlsym(handle, "OrtGetApiBase"));
  if (get_base == nullptr)
    fail(ErrorKind::unavailable, path.string(), " is not ONNX Runtime: it has no OrtGetApiBase");
  const OrtApiBase* base = get_base();
  const std::string version = base->GetVersionString();
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr)
    fail(ErrorKind::unavailable, path.string(), " is ONNX Runtime ", version,
         "; 1.21 or later is needed");
  Ort::InitApi(api);
  // The environment is never destroyed: at the end of the program, objects that it uses may already
  // be destroyed.
  return {version, path, new Ort::Env(ORT_LOGGING_LEVEL_ERROR, "reformer")};
}

}  // namespace

const OnnxRuntimeLibrary& load_onnxruntime(const Options& options) {
  static std::mutex mutex;
  static std::unique_ptr<OnnxRuntimeLibrary> loaded;
  const std::lock_guard<std::mutex> lock(mutex);
  const fs::path wanted = library_to_load(options);
  if (loaded == nullptr) {
    try {
      loaded = std::make_unique<OnnxRuntimeLibrary>(load(wanted));
    } catch (const Ort::Exception& error) {
      fail(ErrorKind::unavailable, "onnxruntime does not start: ", one_line(error.what()));
    }
  } else if (!wanted.empty() && wanted != loaded->path) {
    fail(ErrorKind::unavailable, "this process has loaded ", loaded->path.string(),
         " and cannot load ", wanted.string(), " as well");
  }
  return *loaded;
}

}  // namespace reformer
