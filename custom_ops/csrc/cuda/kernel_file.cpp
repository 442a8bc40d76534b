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

[[noreturn]] void damaged(const std::string& path, const std::string& what) {
  throw Error(path + " is no sound file of kernels (" + what +
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

// A number within bounds. at() and get() throw where a field is missing or of another type.
std::int64_t number(const json& object, const char* name, std::int64_t least, std::int64_t most) {
  const json& value = object.at(name);
  if (!value.is_number_integer()) throw std::domain_error(std::string(name) + " is no integer");
  const auto found = value.get<std::int64_t>();
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
  for (const auto& [name, value] : object.at("attributes").items())
    found.attributes[name] = value.is_array() ? value.get<std::vector<std::int64_t>>()
                                              : std::vector{value.get<std::int64_t>()};
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
    throw Error("the sequences are too long for a GPU: split the batch");
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
    for (const auto& [name, tensor] : tensors.items()) {
      if (name == "__metadata__") continue;
      const auto span = tensor.at("data_offsets").get<std::vector<std::uint64_t>>();
      if (span.size() != 2 || span[0] > span[1] || span[1] > data.size())
        throw std::domain_error(name + " reaches beyond the end of the file");
      images_[name] = std::string(data.substr(span[0], span[1] - span[0]));
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

const char* KernelFile::bytes(const std::string& name) const {
  const auto found = images_.find(name);
  if (found == images_.end()) damaged(path_, "it has no " + name);
  return found->second.c_str();
}

}  // namespace reformer::cuda
