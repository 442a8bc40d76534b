#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <vector>

#include "messages.h"
#include "sha256.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_errno() { throw std::system_error(errno, std::generic_category()); }

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : number_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (number_ < 0) throw_errno();
  }
  ~Descriptor() { ::close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const noexcept { return number_; }

  // Returns the number of bytes read: 0 at the end of the file.
  std::size_t read(char* to, std::size_t size) const {
    for (;;) {
      const ssize_t count = ::read(number_, to, size);
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) throw_errno();
    }
  }

 private:
  int number_;
};

bool is_inside(const fs::path& path, const fs::path& folder) {
  const auto [rest, end] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  (void)end;
  return rest == folder.end();
}

}  // namespace

bool plain_name(const std::string& name) {
  if (name.empty() || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f || c == '/' || c == '\\' || c == ':';
  });
}

fs::path contained_file(const fs::path& folder, const std::string& name, const std::string& what) {
  if (!plain_name(name))
    fail(ErrorKind::artifact, what, " ", in_quotes(name),
         " is not a plain file name inside the folder: do not use this artifact");
  const fs::path path = folder / name;
  std::error_code error;
  const fs::path resolved = fs::canonical(path, error);
  if (error == std::errc::no_such_file_or_directory)
    fail(ErrorKind::artifact, what, " ", in_quotes(name), " is missing from ", folder.string(),
         ": export again");
  if (error)
    fail(ErrorKind::artifact, what, " ", in_quotes(name),
         " cannot be read: ", reason_of(error.value()));
  if (!is_inside(resolved, folder))
    fail(ErrorKind::artifact, what, " ", in_quotes(name), " is a link that leaves the folder (to ",
         resolved.string(), "): copy the file into the folder");
  if (!fs::is_regular_file(resolved, error))
    fail(ErrorKind::artifact, what, " ", in_quotes(name), " is not a regular file: export again");
  return path;
}

MappedFile::MappedFile(const fs::path& path) {
  try {
    const Descriptor file(path, O_RDONLY);
    struct stat status;
    if (::fstat(file.number(), &status) != 0) throw_errno();
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
    if (memory == MAP_FAILED) throw_errno();
    data_ = static_cast<const char*>(memory);
  } catch (const std::system_error& error) {
    fail(ErrorKind::artifact, "cannot read ", path.string(), ": ", reason_of(error.code().value()));
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

std::string sha256_of(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  std::vector<char> buffer(1 << 18);
  Sha256 hash;
  while (const std::size_t count = file.read(buffer.data(), buffer.size()))
    hash.update(buffer.data(), count);
  return hash.finish();
}

std::string read_whole(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  std::string content;
  std::vector<char> buffer(1 << 18);
  while (const std::size_t count = file.read(buffer.data(), buffer.size()))
    content.append(buffer.data(), count);
  return content;
}

void write_atomically(const fs::path& path, const std::function<void(std::FILE*)>& write) {
  // If `path` is a link, the file that it points to is replaced, not the link.
  const fs::path target = fs::weakly_canonical(path);
  std::string hidden = (target.parent_path() / ".reformer-run-XXXXXX").string();
  const int descriptor = ::mkstemp(hidden.data());
  if (descriptor < 0) throw_errno();
  std::FILE* file = ::fdopen(descriptor, "wb");
  try {
    if (file == nullptr) {
      ::close(descriptor);
      throw_errno();
    }
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(descriptor, 0666 & ~mask) != 0) throw_errno();
    write(file);
    if (std::fflush(file) != 0) throw_errno();
    // Some file systems report a full disk only here. Others do not support fsync.
    if (::fsync(descriptor) != 0 && errno != EINVAL && errno != ENOTSUP) throw_errno();
    std::FILE* closing = file;
    file = nullptr;
    if (std::fclose(closing) != 0) throw_errno();
    fs::rename(hidden, target);
  } catch (...) {
    if (file != nullptr) std::fclose(file);
    ::unlink(hidden.c_str());
    throw;
  }
}

}  // namespace reformer
