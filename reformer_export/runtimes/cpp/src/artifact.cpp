#include "reformer/artifact.h"

#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "files.h"
#include "json.h"
#include "onnx_file.h"
#include "words.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kModel = "model.onnx";
constexpr std::int64_t kSchemaVersion = 2;  // version 1 had model.onnx in every artifact
// A manifest is a few kB; more is no manifest and is not read.
constexpr std::size_t kLargestManifest = 16 << 20;

DType dtype_of(const Fields& fields) {
  // What an artifact's inputs and outputs may be.
  static const DType known[] = {DType::bfloat16, DType::boolean, DType::float16, DType::float32,
                                DType::float64,  DType::int32,   DType::int64};
  const std::string name = fields.text("dtype");
  std::vector<std::string> names;
  for (DType dtype : known) {
    if (name == dtype_name(dtype)) return dtype;
    names.push_back(dtype_name(dtype));
  }
  fail(ErrorKind::artifact, fields.where(), ".dtype must be one of ", joined(names), ", found ",
       repr(name));
}

TensorSpec tensor_from(const Fields& fields) {
  TensorSpec spec{{}, dtype_of(fields), {}};
  for (const json& axis : fields.sequence("axes")) {
    if (axis.is_string() && !axis.get_ref<const std::string&>().empty()) {
      spec.axes.emplace_back(axis.get<std::string>());
    } else if (axis.is_number_unsigned() && axis.get<std::uint64_t>() - 1 < INT64_MAX) {
      spec.axes.emplace_back(axis.get<std::int64_t>());
    } else {
      fail(ErrorKind::artifact, fields.where(), ".axes[", std::to_string(spec.axes.size()),
           "] must be a name or a positive size, found ", spelled(axis));
    }
  }
  spec.name = fields.text("name");
  return spec;
}

std::string describe(const TensorSpec& spec) {
  std::vector<std::string> axes;
  for (const auto& axis : spec.axes)
    axes.push_back(axis.index() == 0 ? std::get<0>(axis) : std::to_string(std::get<1>(axis)));
  return spec.name + ": " + dtype_name(spec.dtype) + " [" + joined(axes) + "]";
}

Signature signature_from(const Fields& fields) {
  Signature signature{};
  std::set<std::string> names;
  std::vector<std::string> found;
  bool sound = true;
  for (const Fields& input : fields.children("inputs")) {
    const TensorSpec& spec = signature.inputs.emplace_back(tensor_from(input));
    sound &= spec.dtype == DType::int64 && spec.axes.size() == 2;
    names.insert(spec.name);
    found.push_back(describe(spec));
  }
  if (!sound || found.size() != 2 || names != std::set<std::string>{"input_ids", "attention_mask"})
    fail(ErrorKind::artifact, fields.where(),
         ".inputs must be input_ids and attention_mask, int64 [batch, sequence], found ",
         found.empty() ? "none" : joined(found, "; "));
  for (const Fields& output : fields.children("outputs"))
    signature.outputs.push_back(tensor_from(output));
  if (signature.outputs.empty())
    fail(ErrorKind::artifact, fields.where(), ".outputs is empty: export the model again");
  signature.min_length = fields.integer("min_length", 1);
  signature.vocab_size = fields.integer("vocab_size", 1);
  signature.max_length = fields.integer("max_length", signature.min_length);
  return signature;
}

Manifest manifest_from(const json& document) {
  const Fields fields(document, kManifest);
  const std::int64_t version = fields.integer("schema_version", 1);
  if (version > kSchemaVersion)
    fail(ErrorKind::artifact, kManifest, " has schema version ", std::to_string(version),
         " and this runtime reads up to ", std::to_string(kSchemaVersion), ": take a later one");
  const Fields ops = fields.child("ops"), versions = ops.child("versions");
  Manifest manifest{};
  manifest.task = fields.text("task");
  manifest.architecture = fields.text("architecture");
  manifest.dtype = fields.text("dtype");
  for (const std::string& name : versions.names())
    manifest.op_versions[name] = versions.integer(name);
  manifest.signature = signature_from(fields.child("signature"));
  const Fields files = fields.child("files");
  for (const std::string& name : files.names()) {
    const Fields record = files.child(name);
    manifest.files[name] = {record.text("sha256"), record.integer("bytes", 0)};
  }
  if (manifest.files.count(kModel) > 0) manifest.ops_mode = ops.text("mode");
  if (document.contains("formats")) {
    const Fields formats = fields.child("formats");
    for (const std::string& name : formats.names()) {
      const Fields record = formats.child(name);
      manifest.formats[name] = {record.text("file"), record.text("ops")};
    }
  }
  return manifest;
}

Manifest read_manifest(const fs::path& path) {
  const MappedFile file(path);
  if (file.size() > kLargestManifest)
    fail(ErrorKind::artifact, path.string(), " holds ", std::to_string(file.size()),
         " bytes: that is no manifest");
  return manifest_from(parse_json({file.data(), file.size()}, path.string()));
}

fs::path folder_at(const fs::path& path) {
  const char* made = ": make one with reformer-export to-onnx";
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found)
    fail(ErrorKind::artifact, "there is no artifact at ", path.string(), made);
  if (error)
    fail(ErrorKind::artifact, "cannot read ", path.string(), ": ", reason_of(error.value()));
  if (!fs::is_directory(status))
    fail(ErrorKind::artifact, path.string(), " is a file; an artifact is a folder with a ",
         kManifest);
  if (fs::symlink_status(path / kManifest, error).type() == fs::file_type::not_found)
    fail(ErrorKind::artifact, path.string(), " has no ", kManifest, ", so it is not an artifact",
         made);
  const fs::path folder = fs::canonical(path, error);
  if (error)
    fail(ErrorKind::artifact, "cannot read ", path.string(), ": ", reason_of(error.value()));
  return folder;
}

void compare(const fs::path& file, const FileRecord& expected, bool check_hashes) {
  try {
    const auto size = static_cast<std::int64_t>(fs::file_size(file));
    if (size != expected.bytes)
      fail(ErrorKind::artifact, file.string(), " has ", std::to_string(size),
           " bytes and the manifest says ", std::to_string(expected.bytes),
           ": it was cut or changed, export the model again");
    if (!check_hashes) return;
    const std::string found = sha256_of(file);
    if (found != expected.sha256)
      fail(ErrorKind::artifact, file.string(), " has sha256 ", found.substr(0, 12),
           "... and the manifest says ", one_line(expected.sha256.substr(0, 12)),
           "...: it was changed or damaged, export the model again");
  } catch (const std::system_error& error) {
    fail(ErrorKind::artifact, "cannot read ", file.string(), ": ", reason_of(error.code().value()));
  }
}

}  // namespace

Artifact Artifact::open(const fs::path& path, bool check_hashes) {
  const fs::path folder = folder_at(path);
  Manifest manifest = read_manifest(contained_file(folder, kManifest, "the manifest"));
  const std::string manifest_path = (folder / kManifest).string();
  if (manifest.files.count(kModel) == 0 && manifest.formats.empty())
    fail(ErrorKind::artifact, manifest_path, " does not list ", kModel, ": export again");
  for (const auto& [name, record] : manifest.formats)
    if (manifest.files.count(record.file) == 0)
      fail(ErrorKind::artifact, manifest_path, " says that ", name, " is in ", repr(record.file),
           ", which it does not list: export again");
  const std::string what = std::string("the file that ") + kManifest + " lists,";
  for (const auto& [name, expected] : manifest.files) {
    if (name == kManifest) fail(ErrorKind::artifact, manifest_path, " lists itself: export again");
    compare(contained_file(folder, name, what), expected, check_hashes);
  }
  if (manifest.files.count(kModel) > 0)
    check_external_data(folder, kModel,
                        [&](const std::string& name) { return manifest.files.count(name) > 0; });
  return {folder, std::move(manifest)};
}

std::vector<std::string> Artifact::formats() const {
  std::vector<std::string> names;
  if (!file(kModel).empty()) names.emplace_back("onnx");
  for (const auto& [name, record] : manifest_.formats) names.push_back(name);
  return names;
}

fs::path Artifact::file(const std::string& name) const {
  return manifest_.files.count(name) > 0 ? path_ / name : fs::path();
}

}  // namespace reformer
