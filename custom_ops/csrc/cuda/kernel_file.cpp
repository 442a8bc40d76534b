#include "cuda/kernel_file.h"

#include <cstdio>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

namespace reformer::cuda {
namespace {

using nlohmann::json;

constexpr const char* kKind = "reformer-kernels";
constexpr std::int64_t kSchemaVersion = 1;
constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 30;
constexpr int kDeepest = 16;
constexpr std::int64_t kMost = std::int64_t{1} << 62;
constexpr std::int64_t kLongest = std::numeric_limits<std::int32_t>::max();

// `what` may contain text of the file, so the message is reduced to one short line of ASCII.
[[noreturn]] void damaged(const std::string& path, std::string what) {
  constexpr std::size_t kLongestText = 200;
  if (what.size() > kLongestText) what.replace(kLongestText, std::string::npos, "...");
  for (char& c : what)
    if (c < ' ' || c > '~') c = '?';
  throw Error(path + " is not a valid file of kernels (" + what +
              "): make it again with reformer-export add-kernels");
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw Error("cannot read the kernels in " + path + ": there is no such file");
  const std::streamoff size = file.tellg();
  if (size < 0 || static_cast<std::uint64_t>(size) > kLargestFile)
    damaged(path, "its size is " + std::to_string(size));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(bytes.data(), size)) damaged(path, "it cannot be read to its end");
  return bytes;
}

json parse(std::string_view text) {
  return json::parse(text, [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw std::length_error("it is nested too deeply");
    return true;
  });
}

// Throws unless the value is an integer: json would convert other types.
std::int64_t integer(const json& value, const std::string& name) {
  if (!value.is_number_integer()) throw std::domain_error(name + " is no integer");
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMost})
    throw std::domain_error(name + " is too large");
  return value.get<std::int64_t>();
}

// A number within bounds. at() and get() throw if a field is missing or has another type.
std::int64_t number(const json& object, const char* name, std::int64_t least, std::int64_t most) {
  const std::int64_t found = integer(object.at(name), name);
  if (found < least || found > most)
    throw std::domain_error(std::string(name) + " is " + std::to_string(found));
  return found;
}

Amount amount(const json& object) {
  return {number(object, "times", 1, kMost), number(object, "multiplier", 1, kLongest),
          number(object, "divisor", 1, kLongest)};
}

Launch launch(const json& object) {
  Launch found{};
  found.entry = object.at("entry").get<std::string>();
  found.image = object.at("image").get<std::string>();
  found.programs = amount(object.at("programs"));
  found.threads = static_cast<unsigned>(number(object, "threads", 32, 1024));
  found.shared_bytes = static_cast<unsigned>(number(object, "shared_bytes", 0, 1 << 20));
  found.shortest = number(object, "shortest", 1, kLongest);
  found.longest = number(object, "longest", 1, kLongest);
  for (const json& argument : object.at("arguments"))
    found.arguments.push_back(argument.is_null() ? "" : argument.get<std::string>());
  return found;
}

Program program(const json& object) {
  Program found{};
  found.op = object.at("operator").get<std::string>();
  found.version = number(object, "version", 1, kLongest);
  found.dtype = object.at("dtype").get<std::string>();
  found.target = static_cast<int>(number(object, "target", 10, 9999));
  found.portable = object.at("portable").get<bool>();
  for (const auto& [name, value] : object.at("attributes").items()) {
    auto& values = found.attributes[name];
    if (value.is_array()) {
      for (const json& each : value) values.push_back(integer(each, name));
    } else {
      values.push_back(integer(value, name));
    }
  }
  for (const auto& [name, value] : object.at("sizes").items())
    found.sizes[name] = number(object.at("sizes"), name.c_str(), 1, kLongest);
  for (const auto& [name, value] : object.at("scratch").items())
    found.scratch[name] = amount(value);
  for (const json& each : object.at("launches")) found.launches.push_back(launch(each));
  return found;
}

}  // namespace

std::int64_t Amount::of(std::int64_t batch, std::int64_t length) const {
  std::int64_t rows = 0, count = 0;
  if (__builtin_mul_overflow(length, multiplier, &rows) || rows > kMost ||
      __builtin_mul_overflow((rows + divisor - 1) / divisor, batch, &count) ||
      __builtin_mul_overflow(count, times, &count) || count > kMost)
    throw Error(kTooLong);
  return count;
}

KernelFile::KernelFile(const std::string& path) : path_(path) {
  const std::string file = read(path);
  constexpr std::size_t kPrefix = 8;
  std::uint64_t header_size = 0;
  if (file.size() < kPrefix) damaged(path, "it ends before its header");
  for (std::size_t i = 0; i < kPrefix; ++i)
    header_size |= std::uint64_t{static_cast<unsigned char>(file[i])} << (8 * i);
  if (header_size > file.size() - kPrefix) damaged(path, "its header is cut off");
  const std::string_view header(file.data() + kPrefix, header_size);
  const std::string_view data(file.data() + kPrefix + header_size,
                              file.size() - kPrefix - header_size);
  try {
    const json tensors = parse(header);
    const json document = parse(tensors.at("__metadata__").at(kKind).get_ref<const std::string&>());
    if (number(document, "schema_version", 1, kLongest) > kSchemaVersion)
      throw Error(path + " was made by a later release of reformer-export: update it here");
    std::size_t room = data.size();
    for (const auto& [name, tensor] : tensors.items()) {
      if (name == "__metadata__") continue;
      const json& span = tensor.at("data_offsets");
      const std::int64_t first = integer(span.at(0), name), end = integer(span.at(1), name);
      if (first < 0 || first > end || static_cast<std::uint64_t>(end) > data.size())
        throw std::domain_error(name + " reaches beyond the end of the file");
      const auto size = static_cast<std::size_t>(end - first);
      if (size > room) throw std::domain_error("its kernels overlap");
      room -= size;
      images_[name] = std::string(data.substr(static_cast<std::size_t>(first), size));
    }
    for (const json& each : document.at("programs")) programs_.push_back(program(each));
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    damaged(path, error.what());
  }
}

bool KernelFile::has(const std::string& op, std::int64_t version, const std::string& dtype) const {
  for (const Program& program : programs_)
    if (program.op == op && program.version == version && program.dtype == dtype) return true;
  return false;
}

const char* KernelFile::bytes(const std::string& name) const {
  const auto found = images_.find(name);
  if (found == images_.end()) damaged(path_, "it has no " + name);
  return found->second.c_str();
}

}  // namespace reformer::cuda
