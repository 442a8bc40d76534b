#include "engine.h"

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "files.h"
#include "json.h"
#include "manifest.h"
#include "messages.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kSchemaVersion = 1;

// The header of a TensorRT-RTX engine, as in reformer_export/artifact/engine_header.py.
constexpr char kMagic[] = "vtrt";
constexpr std::size_t kSizeAt = 16, kVersionAt = 24, kTargetsAt = 32, kHeaderSize = 36;
constexpr std::pair<const char*, std::uint32_t> kTargets[] = {
    {"sm120", 16}, {"sm121", 32}, {"sm75", 1}, {"sm80", 2}, {"sm86", 4}, {"sm89", 8}};

Extent extent_from(const Fields& fields, const std::string& key) {
  std::vector<std::int64_t> sizes;
  bool sound = true;
  for (const json& size : fields.sequence(key)) {
    sound &= size.is_number_unsigned() && size.get<std::uint64_t>() - 1 < INT64_MAX;
    sizes.push_back(sound ? size.get<std::int64_t>() : 0);
  }
  if (!sound || sizes.size() != 2)
    fail(ErrorKind::artifact, fields.where(), ".", key, " must be [batch, length], found ",
         spelled(fields.value(key)));
  return {sizes[0], sizes[1]};
}

std::string spelled(const Extent& extent) {
  return std::to_string(extent.batch) + "x" + std::to_string(extent.length);
}

std::string spelled(const Profile& profile) {
  return spelled(profile.smallest) + " to " + spelled(profile.largest) + ", tuned for " +
         spelled(profile.usual);
}

bool takes(const Profile& profile, std::int64_t batch, std::int64_t length) {
  const Extent &low = profile.smallest, &high = profile.largest;
  return low.batch <= batch && batch <= high.batch && low.length <= length && length <= high.length;
}

std::uint64_t little_endian(const char* data, int bytes) {
  std::uint64_t number = 0;
  for (int i = bytes - 1; i >= 0; --i) number = number << 8 | static_cast<unsigned char>(data[i]);
  return number;
}

}  // namespace

Manifest engine_manifest_from(const json& document, const std::string& where) {
  const Fields fields(document, where);
  check_schema(fields, kSchemaVersion);
  EngineRecord record{fields.text("flavor"), fields.text("version"), {}, {}, {}};
  record.targets = fields.texts("targets");
  for (const Fields& profile : fields.children("profiles"))
    record.profiles.push_back(
        {extent_from(profile, "min"), extent_from(profile, "opt"), extent_from(profile, "max")});
  if (record.profiles.empty())
    fail(ErrorKind::artifact, where, ".profiles is empty: ", kEngineRemedy);
  record.model_sha256 = fields.child("source").text("model_sha256");
  if (record.flavor != "rtx" && record.flavor != "standard")
    fail(ErrorKind::artifact, where, ".flavor must be rtx or standard, found ",
         in_quotes(record.flavor));

  Manifest manifest{};
  manifest.dtype = fields.text("dtype");
  manifest.signature = signature_from(fields.child("signature"));
  manifest.files = files_from(fields.child("files"));
  manifest.formats[kEngineFormat] = {{kEngineFile}, fields.text("ops"), {}};
  manifest.engine = std::move(record);
  return manifest;
}

void check_engine_header(const fs::path& path, const EngineRecord& record) {
  if (record.flavor != "rtx") return;
  const MappedFile file(path);
  const char* data = file.data();
  if (file.size() < kHeaderSize || std::memcmp(data, kMagic, std::strlen(kMagic)) != 0)
    fail(ErrorKind::artifact, path.string(), " is not a TensorRT-RTX engine: ", kEngineRemedy);
  const std::uint64_t size = little_endian(data + kSizeAt, 8);
  if (size != file.size())
    fail(ErrorKind::artifact, path.string(), " has ", std::to_string(file.size()),
         " bytes and its header says ", std::to_string(size), ": ", kEngineRemedy);
  std::vector<std::string> numbers;
  for (int i = 0; i < 4; ++i)
    numbers.push_back(std::to_string(static_cast<unsigned char>(data[kVersionAt + i])));
  if (const std::string found = joined(numbers, "."); found != record.version)
    fail(ErrorKind::artifact, path.string(), " was built by TensorRT-RTX ", found,
         " and its record says ", record.version, ": ", kEngineRemedy);
  const std::uint64_t mask = little_endian(data + kTargetsAt, 4);
  const std::set<std::string> listed(record.targets.begin(), record.targets.end());
  std::vector<std::string> built_for, recorded;
  for (const auto& [name, bit] : kTargets) {
    if (mask & bit) built_for.emplace_back(name);
    if (listed.count(name) > 0) recorded.emplace_back(name);
  }
  if (built_for != recorded)
    fail(ErrorKind::artifact, path.string(), " was built for ", joined(built_for),
         " and its record says ", joined(recorded), ": ", kEngineRemedy);
}

std::size_t choose_profile(const std::vector<Profile>& profiles, std::int64_t batch,
                           std::int64_t length) {
  const auto distance = [&](std::size_t i) {
    return std::llabs(profiles[i].usual.length - length);
  };
  std::optional<std::size_t> best;
  std::vector<std::string> shapes;
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    shapes.push_back(spelled(profiles[i]));
    if (takes(profiles[i], batch, length) && (!best || distance(i) < distance(*best))) best = i;
  }
  if (!best)
    fail(ErrorKind::input, "the engine was not built for ", std::to_string(batch), "x",
         std::to_string(length), " tokens: it takes ", joined(shapes, "; "),
         "; build one with other --minShapes and --maxShapes");
  return *best;
}

}  // namespace reformer
