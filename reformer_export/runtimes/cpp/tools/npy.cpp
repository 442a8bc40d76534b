#include "npy.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

#include "messages.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestHeader = 1 << 16;

struct Malformed {
  std::string reason;
};

// The header is a Python dictionary of three entries:
//   {'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }
class Header {
 public:
  explicit Header(std::string_view text) : rest_(text) {
    expect('{');
    while (!accept('}')) {
      const std::string key = text_value();
      expect(':');
      if (key == "descr")
        descr = text_value();
      else if (key == "fortran_order")
        fortran_order = truth();
      else if (key == "shape")
        shape = numbers();
      else
        throw Malformed{"its header has the unknown entry " + in_quotes(key)};
      if (!accept(',') && peek() != '}') throw unreadable();
    }
    if (!descr || !fortran_order || !shape) throw Malformed{"its header lacks an entry"};
  }

  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<Shape> shape;

 private:
  static Malformed unreadable() { return {"its header cannot be read"}; }

  char peek() {
    const std::size_t start = rest_.find_first_not_of(" \t\n");
    if (start == rest_.npos) throw unreadable();
    rest_.remove_prefix(start);
    return rest_.front();
  }

  bool accept(char wanted) {
    if (peek() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) throw unreadable();
  }

  std::string text_value() {
    const char mark = peek();
    if (mark != '\'' && mark != '"') throw Malformed{"it holds records, not numbers"};
    const std::size_t end = rest_.find(mark, 1);
    if (end == rest_.npos) throw unreadable();
    const std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }

  bool truth() {
    peek();
    for (const auto& [word, value] : {std::pair("True", true), std::pair("False", false)}) {
      if (rest_.substr(0, std::strlen(word)) != word) continue;
      rest_.remove_prefix(std::strlen(word));
      return value;
    }
    throw unreadable();
  }

  Shape numbers() {
    Shape all;
    expect('(');
    while (!accept(')')) {
      std::int64_t number = 0;
      if (peek() < '0' || peek() > '9') throw unreadable();
      while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, rest_.front() - '0', &number))
          throw Malformed{"its shape is too large"};
        rest_.remove_prefix(1);
      }
      all.push_back(number);
      if (!accept(',') && peek() != ')') throw unreadable();
    }
    return all;
  }

  std::string_view rest_;
};

DType dtype_of(const std::string& descr) {
  static const std::pair<const char*, DType> known[] = {
      {"b1", DType::boolean}, {"i1", DType::int8},    {"i2", DType::int16},
      {"i4", DType::int32},   {"i8", DType::int64},   {"u1", DType::uint8},
      {"u2", DType::uint16},  {"u4", DType::uint32},  {"u8", DType::uint64},
      {"f2", DType::float16}, {"f4", DType::float32}, {"f8", DType::float64}};
  if (descr.size() == 3)
    for (const auto& [code, dtype] : known)
      if (descr.substr(1) == code) return dtype;
  throw Malformed{"it holds " + in_quotes(descr)};
}

void swap_bytes(char* data, std::size_t count, std::size_t width) {
  for (std::size_t i = 0; i < count; ++i) std::reverse(data + i * width, data + (i + 1) * width);
}

// The numbers of an array in Fortran's order, in C's order.
Tensor in_c_order(const Tensor& given) {
  const Shape& shape = given.shape();
  Tensor tensor(given.dtype(), shape);
  const std::size_t width = dtype_size(given.dtype());
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    std::size_t rest = i, from = 0, stride = tensor.size();
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      const auto size = static_cast<std::size_t>(shape[axis]);
      stride /= size;
      from += rest % size * stride;
      rest /= size;
    }
    std::memcpy(static_cast<char*>(tensor.raw()) + i * width,
                static_cast<const char*>(given.raw()) + from * width, width);
  }
  return tensor;
}

// The shape of token ids, [batch, length]; nothing if the file's shape is not one of them.
std::optional<Shape> of_tokens(Shape shape) {
  if (shape.size() == 1) shape.insert(shape.begin(), 1);
  return shape.size() == 2 ? std::optional(shape) : std::nullopt;
}

// The shape of series, [batch, length, channels].
std::optional<Shape> of_series(Shape shape) {
  if (shape.size() == 1) shape.push_back(1);
  if (shape.size() == 2) shape.insert(shape.begin(), 1);
  return shape.size() == 3 ? std::optional(shape) : std::nullopt;
}

Tensor read(const fs::path& path, const std::string& name, std::optional<Shape> (*full)(Shape),
            const char* shapes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const int error = errno;
    fail(ErrorKind::input, "cannot read ", path.string(), ": ", reason_of(error));
  }
  std::uint8_t start[12] = {};
  file.read(reinterpret_cast<char*>(start), 6);
  if (!file || std::memcmp(start, "\x93NUMPY", 6) != 0)
    fail(ErrorKind::input, path.string(), " is not a .npy file: write it with numpy.save");
  file.read(reinterpret_cast<char*>(start + 6), 2);
  if (!file) throw Malformed{"it is cut off"};
  const int width = start[6] == 1 ? 2 : 4;  // bytes of the header's size, by version
  if (start[6] < 1 || start[6] > 3) throw Malformed{"its version is " + std::to_string(start[6])};
  file.read(reinterpret_cast<char*>(start + 8), width);
  std::size_t size = 0;
  for (int i = width - 1; i >= 0; --i) size = size << 8 | start[8 + i];
  if (!file || size > kLargestHeader) throw Malformed{"its header is cut off or too long"};
  std::string text(size, ' ');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (!file) throw Malformed{"its header is cut off"};

  const Header header(text);
  const DType dtype = dtype_of(*header.descr);
  const std::optional<Shape> shape = full(*header.shape);
  if (!shape)
    fail(ErrorKind::input, path.string(), " has shape ", listed(*header.shape), "; ", name,
         " must be ", shapes);

  const auto data_start = static_cast<std::uint64_t>(file.tellg());
  const std::uint64_t held = fs::file_size(path) - data_start;
  std::uint64_t needed = dtype_size(dtype);
  bool huge = false;
  for (std::int64_t axis : *shape)
    huge |= __builtin_mul_overflow(needed, static_cast<std::uint64_t>(axis), &needed);
  if (huge || needed > held)
    throw Malformed{"it holds " + std::to_string(held) + " bytes of " + listed(*header.shape) +
                    " numbers"};
  Tensor tensor(dtype, *shape);
  file.read(static_cast<char*>(tensor.raw()), static_cast<std::streamsize>(tensor.bytes()));
  if (!file) throw Malformed{"it is cut off"};
  if (header.descr->front() == '>')
    swap_bytes(static_cast<char*>(tensor.raw()), tensor.size(), dtype_size(dtype));
  return *header.fortran_order ? in_c_order(tensor) : tensor;
}

// The result of `reading`, whose errors become Error (input).
template <typename Reading>
Tensor checked(const fs::path& path, const char* kind, Reading&& reading) {
  std::error_code error;
  if (fs::is_directory(path, error))
    fail(ErrorKind::input, "cannot read ", path.string(), ": ", reason_of(EISDIR));
  try {
    return reading();
  } catch (const Malformed& malformed) {
    fail(ErrorKind::input, path.string(), " does not hold an array of numbers (", malformed.reason,
         "): write it with numpy.save from ", kind);
  } catch (const fs::filesystem_error& problem) {
    fail(ErrorKind::input, "cannot read ", path.string(), ": ", reason_of(problem.code().value()));
  }
}

const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return "|b1";
    case DType::int8:
      return "|i1";
    case DType::int16:
      return "<i2";
    case DType::int32:
      return "<i4";
    case DType::int64:
      return "<i8";
    case DType::uint8:
      return "|u1";
    case DType::uint16:
    case DType::bfloat16:  // NumPy has no bfloat16: the bits are stored
      return "<u2";
    case DType::uint32:
      return "<u4";
    case DType::uint64:
      return "<u8";
    case DType::float16:
      return "<f2";
    case DType::float32:
      return "<f4";
    case DType::float64:
      return "<f8";
  }
  return "|V1";
}

std::string npy_header(const Tensor& tensor) {
  std::string shape;
  for (std::int64_t axis : tensor.shape()) shape += std::to_string(axis) + ", ";
  if (tensor.shape().size() > 1) shape.resize(shape.size() - 2);
  std::string text = "{'descr': '" + std::string(descr_of(tensor.dtype())) +
                     "', 'fortran_order': False, 'shape': (" + shape + "), }";
  constexpr std::size_t kPrologue = 10;
  // The numbers must begin at a multiple of 64 bytes.
  text.append(63 - (kPrologue + text.size()) % 64, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

const std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    table[i] = crc;
  }
  return table;
}();

std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  crc = ~crc;
  for (std::size_t i = 0; i < size; ++i) crc = crc >> 8 ^ kCrcTable[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

void write_bytes(std::FILE* file, const void* data, std::size_t size) {
  if (size > 0 && std::fwrite(data, 1, size, file) != size)
    throw std::system_error(errno, std::generic_category());
}

// An uncompressed ZIP archive (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT). It
// always has the 64-bit fields, like the archives of numpy.savez.
class Zip {
 public:
  explicit Zip(std::FILE* file) : file_(file) {}

  void add(const std::string& name, const std::string& header, const void* data, std::size_t size) {
    const std::uint64_t start = position_, total = header.size() + size;
    const std::uint32_t crc = crc32(crc32(0, header.data(), header.size()), data, size);
    Bytes local;
    local.put(0x04034b50, 4).put(45, 2).put(0, 4);  // needs version 4.5; not compressed
    local.put(kDate, 4).put(crc, 4).put(UINT32_MAX, 4).put(UINT32_MAX, 4);
    local.put(name.size(), 2).put(20, 2).text(name);
    local.put(1, 2).put(16, 2).put(total, 8).put(total, 8);
    write(local.bytes.data(), local.bytes.size());
    write(header.data(), header.size());
    write(data, size);

    directory_.put(0x02014b50, 4).put(45, 2).put(45, 2).put(0, 4);
    directory_.put(kDate, 4).put(crc, 4).put(UINT32_MAX, 4).put(UINT32_MAX, 4);
    directory_.put(name.size(), 2).put(28, 2).put(0, 6).put(0600u << 16, 4).put(UINT32_MAX, 4);
    directory_.text(name).put(1, 2).put(24, 2).put(total, 8).put(total, 8).put(start, 8);
    ++count_;
  }

  void finish() {
    const std::uint64_t start = position_, size = directory_.bytes.size();
    directory_.put(0x06064b50, 4).put(44, 8).put(45, 2).put(45, 2).put(0, 8);
    directory_.put(count_, 8).put(count_, 8).put(size, 8).put(start, 8);
    directory_.put(0x07064b50, 4).put(0, 4).put(start + size, 8).put(1, 4);
    directory_.put(0x06054b50, 4).put(0, 4).put(UINT32_MAX, 4);
    directory_.put(UINT32_MAX, 4).put(UINT32_MAX, 4).put(0, 2);
    write(directory_.bytes.data(), directory_.bytes.size());
  }

 private:
  // 1980-01-01: a fixed date, so that equal outputs give equal files.
  static constexpr std::uint32_t kDate = 0x00210000;

  struct Bytes {
    Bytes& put(std::uint64_t value, int width) {  // little endian
      for (int i = 0; i < width; ++i) bytes += static_cast<char>(i < 8 ? value >> 8 * i & 0xff : 0);
      return *this;
    }
    Bytes& text(const std::string& value) {
      bytes += value;
      return *this;
    }
    std::string bytes;
  };

  void write(const void* data, std::size_t size) {
    write_bytes(file_, data, size);
    position_ += size;
  }

  std::FILE* file_;
  std::uint64_t position_ = 0, count_ = 0;
  Bytes directory_;
};

}  // namespace

Tensor read_npy(const fs::path& path, const std::string& name) {
  return checked(path, "an integer array",
                 [&] { return read(path, name, of_tokens, "[length] or [batch, length]"); });
}

Tensor read_series_npy(const fs::path& path, const std::string& name) {
  return checked(path, "an array of numbers", [&] {
    return read(path, name, of_series, "[length], [length, channels] or [batch, length, channels]");
  });
}

void write_npy(std::FILE* file, const Tensor& tensor) {
  const std::string header = npy_header(tensor);
  write_bytes(file, header.data(), header.size());
  write_bytes(file, tensor.raw(), tensor.bytes());
}

void write_npz(std::FILE* file, const NamedTensors& tensors) {
  Zip zip(file);
  for (const auto& [name, tensor] : tensors)
    zip.add(name + ".npy", npy_header(tensor), tensor.raw(), tensor.bytes());
  zip.finish();
}

}  // namespace reformer
