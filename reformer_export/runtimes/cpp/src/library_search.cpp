#include "library_search.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace reformer {

namespace fs = std::filesystem;

std::vector<fs::path> own_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const fs::path& file) {
    std::error_code error;
    const fs::path found = fs::canonical(file, error);
    if (error) return;
    const fs::path folder = found.parent_path();
    for (const fs::path& each : {folder, folder.parent_path() / "lib"})
      if (std::find(folders.begin(), folders.end(), each) == folders.end()) folders.push_back(each);
  };
  Dl_info info;
  if (::dladdr(reinterpret_cast<const void*>(&own_folders), &info) != 0 &&
      info.dli_fname != nullptr && std::string(info.dli_fname).find('/') != std::string::npos)
    add(info.dli_fname);
  add("/proc/self/exe");
  return folders;
}

namespace {

// The numbers in a file name after `name`, such as 1, 31, 1.
std::vector<long> release_of(const fs::path& file, const std::string& name) {
  std::vector<long> numbers;
  std::istringstream parts(file.filename().string().substr(name.size() + 1));
  for (std::string part; std::getline(parts, part, '.');)
    numbers.push_back(std::strtol(part.c_str(), nullptr, 10));
  return numbers;
}

}  // namespace

fs::path library_in(const fs::path& folder, const std::string& name) {
  std::error_code error;
  if (fs::is_regular_file(folder / name, error)) return folder / name;
  std::vector<fs::path> releases;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().rfind(name + ".", 0) == 0)
      releases.push_back(entry.path());
  const auto older = [&](const fs::path& one, const fs::path& other) {
    return release_of(one, name) < release_of(other, name);
  };
  return releases.empty() ? fs::path() : *std::max_element(releases.begin(), releases.end(), older);
}

std::string alternatives(const std::vector<fs::path>& folders) {
  std::string text;
  for (std::size_t i = 0; i < folders.size(); ++i) {
    if (i > 0) text += i + 1 < folders.size() ? ", " : " or ";
    text += folders[i].string();
  }
  return text;
}

}  // namespace reformer
