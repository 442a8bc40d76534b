// Reads files of an untrusted artifact, and writes files atomically.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace reformer {

// True if the name is a plain file name on every system, so that folder/name is inside the folder.
bool plain_name(const std::string& name);

// Returns `folder`/`name` if it is a regular file and no link leads out of the folder. `folder`
// must be absolute and without links. Throws Error (artifact); its message begins with `what`.
std::filesystem::path contained_file(const std::filesystem::path& folder, const std::string& name,
                                     const std::string& what);

// A file that is mapped into memory. Throws Error (artifact).
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

// Both throw std::system_error.
std::string sha256_of(const std::filesystem::path& path);
std::string read_whole(const std::filesystem::path& path);

// Calls `write` with a temporary file, which then replaces `path`. Throws std::system_error and the
// exceptions of `write`; then `path` is unchanged and the temporary file is removed.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(std::FILE*)>& write);

}  // namespace reformer
