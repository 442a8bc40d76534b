#include "manifest.h"

#include <nlohmann/json.hpp>
#include <set>

#include "files.h"
#include "messages.h"
#include "series_signature.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kModel = "model.onnx";
// In versions 1 and 2, the record of model.onnx is at the top level of the manifest.
constexpr std::int64_t kSchemaVersion = 3;
// A manifest has a few kB, an engine's record some hundred kB; a larger file is not read.
constexpr std::size_t kLargest = 16 << 20;

DType dtype_of(const Fields& fields) {
  // The allowed types of an artifact's inputs and outputs.
  static const DType known[] = {DType::bfloat16, DType::boolean, DType::float16, DType::float32,
                                DType::float64,  DType::int32,   DType::int64};
  const std::string name = fields.text("dtype");
  std::vector<std::string> names;
  for (DType dtype : known) {
    if (name == dtype_name(dtype)) return dtype;
    names.push_back(dtype_name(dtype));
  }
  fail(ErrorKind::artifact, fields.where(), ".dtype must be one of ", joined(names), ", found ",
       in_quotes(name));
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

// The files of a format; there must be at least the `opened` files that a runtime opens.
std::vector<std::string> files_of(const Fields& format, std::size_t opened) {
  auto files = format.texts("files");
  if (files.size() < opened)
    fail(ErrorKind::artifact, format.where(), ".files must hold at least ", std::to_string(opened),
         ", found ", std::to_string(files.size()));
  return files;
}

std::map<std::string, std::int64_t> versions_from(const Fields& fields) {
  std::map<std::string, std::int64_t> versions;
  for (const std::string& name : fields.names()) versions[name] = fields.integer(name);
  return versions;
}

std::string describe(const TensorSpec& spec) {
  std::vector<std::string> axes;
  for (const auto& axis : spec.axes)
    axes.push_back(axis.index() == 0 ? std::get<0>(axis) : std::to_string(std::get<1>(axis)));
  return spec.name + ": " + dtype_name(spec.dtype) + " [" + joined(axes) + "]";
}

bool takes_tokens(const Signature& signature) {
  std::set<std::string> names;
  for (const TensorSpec& spec : signature.inputs) {
    if (spec.dtype != DType::int64 || spec.axes.size() != 2) return false;
    names.insert(spec.name);
  }
  return signature.inputs.size() == 2 &&
         names == std::set<std::string>{"input_ids", "attention_mask"};
}

bool takes_series(const Signature& signature) {
  const char* const names[] = {kSeries, kTimeFeatures};
  const std::size_t count = signature.inputs.size();
  if (count < 1 || count > 2) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const TensorSpec& spec = signature.inputs[i];
    if (spec.name != names[i] || spec.dtype != DType::float32 || spec.axes.size() != 3 ||
        spec.axes.back().index() != 1)
      return false;
  }
  const std::size_t tables = signature.time_tables.size();
  return tables == 0 || (count == 2 && std::get<std::int64_t>(signature.inputs[1].axes.back()) ==
                                           static_cast<std::int64_t>(tables));
}

void read_series(const Fields& fields, Signature& signature) {
  signature.kind = SignatureKind::series;
  signature.horizon = fields.integer("horizon", 0);
  for (const json& size : fields.sequence("time_tables")) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() - 1 >= INT64_MAX)
      fail(ErrorKind::artifact, fields.where(), ".time_tables must hold positive sizes, found ",
           spelled(size));
    signature.time_tables.push_back(size.get<std::int64_t>());
  }
}

}  // namespace

json read_document(const fs::path& path) {
  const MappedFile file(path);
  if (file.size() > kLargest)
    fail(ErrorKind::artifact, path.string(), " holds ", std::to_string(file.size()),
         " bytes: that is no manifest");
  return parse_json({file.data(), file.size()}, path.string());
}

std::int64_t check_schema(const Fields& fields, std::int64_t newest) {
  const std::int64_t version = fields.integer("schema_version", 1);
  if (version > newest)
    fail(ErrorKind::artifact, fields.where(), " has schema version ", std::to_string(version),
         " and this runtime reads up to ", std::to_string(newest), ": use a later release");
  return version;
}

std::map<std::string, FileRecord> files_from(const Fields& fields) {
  std::map<std::string, FileRecord> files;
  for (const std::string& name : fields.names()) {
    const Fields record = fields.child(name);
    files[name] = {record.text("sha256"), record.integer("bytes", 0)};
  }
  return files;
}

Signature signature_from(const Fields& fields) {
  Signature signature{};
  std::vector<std::string> found;
  for (const Fields& input : fields.children("inputs"))
    found.push_back(describe(signature.inputs.emplace_back(tensor_from(input))));
  // Earlier releases wrote no kind: all their models take tokens.
  const std::string kind = fields.has("kind") ? fields.text("kind") : "tokens";
  if (kind == "series")
    read_series(fields, signature);
  else if (kind != "tokens")
    fail(ErrorKind::artifact, fields.where(), ".kind must be one of tokens, series, found ",
         in_quotes(kind), ": use a later release");
  const std::string wanted = kind == "tokens"
                                 ? "input_ids and attention_mask, int64 [batch, sequence]"
                                 : "series, float32 [batch, sequence, channels], and perhaps "
                                   "time_features, float32 [batch, sequence + " +
                                       std::to_string(signature.horizon) + ", features]";
  if (!(kind == "tokens" ? takes_tokens(signature) : takes_series(signature)))
    fail(ErrorKind::artifact, fields.where(), ".inputs must be ", wanted, ", found ",
         found.empty() ? "none" : joined(found, "; "));
  for (const Fields& output : fields.children("outputs"))
    signature.outputs.push_back(tensor_from(output));
  if (signature.outputs.empty())
    fail(ErrorKind::artifact, fields.where(), ".outputs is empty: export the model again");
  signature.min_length = fields.integer("min_length", 1);
  if (kind == "tokens") signature.vocab_size = fields.integer("vocab_size", 1);
  signature.max_length = fields.integer("max_length", signature.min_length);
  return signature;
}

Manifest manifest_from(const json& document, const std::string& where) {
  const Fields fields(document, where);
  const std::int64_t version = check_schema(fields, kSchemaVersion);
  const Fields ops = fields.child("ops");
  Manifest manifest{};
  manifest.task = fields.text("task");
  manifest.architecture = fields.text("architecture");
  manifest.dtype = fields.text("dtype");
  manifest.op_versions = versions_from(ops.child("versions"));
  manifest.signature = signature_from(fields.child("signature"));
  manifest.files = files_from(fields.child("files"));
  if (version < 3 && manifest.files.count(kModel) > 0)
    manifest.formats[kOnnxFormat] = {{kModel}, ops.text("mode"), {}};
  if (version >= 3 || document.contains("formats")) {
    const Fields formats = fields.child("formats");
    for (const std::string& name : formats.names()) {
      const Fields record = formats.child(name);
      FormatRecord& format = manifest.formats[name];
      const bool decoder = name == kDecoderFormat;
      format.files =
          version < 3 ? std::vector{record.text("file")} : files_of(record, decoder ? 2 : 1);
      format.ops = record.text("ops");
      if (decoder) format.op_versions = versions_from(record.child("details").child("ops"));
    }
  }
  return manifest;
}

}  // namespace reformer
