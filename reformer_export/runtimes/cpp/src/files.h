// Reads files of an untrusted artifact, and writes files atomically.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace reformer {

// True if the name is a plain file name on any system: joined to a folder, it stays in it.
bool plain_name(const std::string& name);

// `folder`/`name`, a regular file; no link in it leaves the folder. `folder` must be absolute and
// without links. Throws Error (artifact) that begins with `what`.
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

// Calls `write` with a temporary file, which then replaces `path`. Throws std::system_error, as
// `write` may; then `path` is unchanged and the temporary file is removed.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(std::FILE*)>& write);

}  // namespace reformer
