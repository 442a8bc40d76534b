// Files of an artifact, read with care, and files that appear whole or not at all.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace reformer {

// Whether a name, on any system, stays in the folder it is joined to.
bool plain_name(const std::string& name);

// `folder`/`name`, a regular file that is in the folder in fact and not only by name. `folder` is
// absolute and free of links. Throws Error (artifact), in which `what` says whose file it is.
std::filesystem::path contained_file(const std::filesystem::path& folder, const std::string& name,
                                     const std::string& what);

// An open file, which is mapped and so takes no memory of its own. Throws Error (artifact).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

// Throws std::system_error.
std::string sha256_of(const std::filesystem::path& path);
std::string read_whole(const std::filesystem::path& path);

// Calls `write` with a file that becomes `path` (replacing it) when that ends well. Throws
// std::system_error, with nothing left behind; so may `write`.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(std::FILE*)>& write);

}  // namespace reformer
