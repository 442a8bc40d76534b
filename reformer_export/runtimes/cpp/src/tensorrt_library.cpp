#include "tensorrt_library.h"

#include <dlfcn.h>

#include <regex>
#include <vector>

#include "engine.h"
#include "library_search.h"
#include "messages.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

std::string file_name(const std::string& flavor) {
  return flavor == "rtx" ? "libtensorrt_rtx.so" : "libnvinfer.so";
}

// The library at the path `given`, or in the folder `given`; `by` is the option that named it.
fs::path named_library(const fs::path& given, const std::string& name, const char* by) {
  std::error_code error;
  const fs::path path = fs::is_directory(given, error) ? library_in(given, name) : given;
  if (!fs::is_regular_file(path, error))
    fail(ErrorKind::unavailable, by, " names ", given.string(), ", where there is no ", name);
  return fs::canonical(path);
}

// The library to load; empty if the system must search for it.
fs::path library_to_load(const Options& options, const std::string& name) {
  if (!options.tensorrt.empty()) return named_library(options.tensorrt, name, "--tensorrt");
  if (const std::string given = environment("REFORMER_TENSORRT"); !given.empty())
    return named_library(given, name, "REFORMER_TENSORRT");
  for (const fs::path& folder : own_folders())
    if (const fs::path path = library_in(folder, name); !path.empty()) return fs::canonical(path);
  return {};
}

void* open_library(const fs::path& path, const std::string& name, const std::string& major) {
  const std::string file = path.empty() ? name + "." + major : path.string();
  if (void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  if (!path.empty()) fail(ErrorKind::unavailable, file, " does not load: ", one_line(::dlerror()));
  fail(ErrorKind::unavailable, "there is no ", name, " in ", alternatives(own_folders()),
       ", nor a ", file,
       " where the system looks: give its place by --tensorrt or REFORMER_TENSORRT");
}

std::string version_of(void* handle, const std::string& file) {
  std::vector<std::string> numbers;
  for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
    const std::string name = std::string("getInferLib") + part + "Version";
    const auto get = reinterpret_cast<std::int32_t (*)()>(::dlsym(handle, name.c_str()));
    if (get == nullptr)
      fail(ErrorKind::unavailable, file, " is no TensorRT of 10.9 or later: it has no ", name);
    numbers.push_back(std::to_string(get()));
  }
  return joined(numbers, ".");
}

}  // namespace

const char* tensorrt_title(const std::string& flavor) noexcept {
  return flavor == "rtx" ? "TensorRT-RTX" : "TensorRT";
}

TensorRTLibrary load_tensorrt(const Artifact& engine, const Options& options) {
  const EngineRecord& record = *engine.manifest().engine;
  const std::string name = file_name(record.flavor);
  const fs::path path = library_to_load(options, name);
  const std::string major = record.version.substr(0, record.version.find('.'));
  // The library is never closed, because its threads may still run when the process ends.
  void* handle = open_library(path, name, major);
  TensorRTLibrary library{handle, tensorrt_title(record.flavor),
                          version_of(handle, path.empty() ? name : path.string())};
  if (library.version != record.version)
    fail(ErrorKind::unavailable, engine.path().string(), " was built by ", library.title, " ",
         record.version, ", and ", library.version, " is loaded: use that release, or ",
         kEngineRemedy);
  return library;
}

std::string tidy_message(const std::string& message) {
  static const std::regex places(R"(\s*In \w+ at /_?src/\S+\s*)");
  static const std::regex lines(R"(\[\w+\.(cpp|h):\d+: \w+\]\s*)");
  static const std::regex codes(R"(^\w+::\w+: Error Code \d+: (Myelin \()?)");
  std::string tidy = message;
  for (const std::regex* noise : {&places, &lines, &codes})
    tidy = std::regex_replace(tidy, *noise, "");
  tidy = one_line(tidy);
  tidy.erase(tidy.find_last_not_of(')') + 1);
  return tidy;
}

}  // namespace reformer
