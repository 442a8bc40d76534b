// An artifact: a folder with a model and a manifest that lists the hash of every file. Here, a
// folder with a TensorRT engine is also an artifact; its manifest is engine.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "reformer/export.h"
#include "reformer/tensor.h"

namespace reformer {

// A tensor of the model. A dynamic axis is a name, a fixed axis is a number.
struct TensorSpec {
  std::string name;
  DType dtype;
  std::vector<std::variant<std::string, std::int64_t>> axes;
};

// What a model takes: token ids with a mask, or series of numbers.
enum class SignatureKind { tokens, series };

// The inputs and outputs of a model, and limits that a graph cannot express.
struct REFORMER_EXPORT Signature {
  std::vector<TensorSpec> inputs, outputs;
  std::int64_t vocab_size, min_length, max_length;  // vocab_size: 0 for series
  SignatureKind kind;
  // For series: the steps after a series for which time features are needed, too; and for each time
  // feature the number of its values 0, 1, ..., or empty if time features are real numbers.
  std::int64_t horizon;
  std::vector<std::int64_t> time_tables;

  // Returns all inputs in the form that a runtime needs. Throws Error (input) for a wrong name,
  // rank, shape or type, an empty batch, and a length outside the limits. Also:
  //
  // Tokens: int64 [batch, sequence]. Accepts integers of any width (a mask may be boolean). Without
  // an attention_mask, the mask is all ones. Throws for a token id outside the vocabulary, and a
  // mask with numbers other than 0 and 1.
  //
  // Series: float32 `series` [batch, sequence, channels] and, if the model has this input,
  // `time_features` [batch, sequence + horizon, features]. Accepts real numbers of any type. Throws
  // for numbers that are not finite in float32, and a time feature outside its table.
  NamedTensors check(const NamedTensors& inputs) const;

  // The size of checked inputs, such as "1 x 24 steps".
  std::string extent(const NamedTensors& checked) const;
  // "tokens" or "steps".
  const char* unit() const noexcept;
};

// The expected SHA-256 (hexadecimal) and size of a file.
struct FileRecord {
  std::string sha256;
  std::int64_t bytes;
};

// The model in one format.
struct FormatRecord {
  std::vector<std::string> files;  // at least one
  // The form of our operators. "auto": nodes with bodies in standard operators; "native": nodes
  // that need our library; "portable": standard operators only.
  std::string ops;
  // The versions of the operators that occur only in this format, by name.
  std::map<std::string, std::int64_t> op_versions;

  // The file that a runtime opens.
  const std::string& file() const { return files.front(); }
};

// The shape of an input: the number of sequences, and of tokens in each.
struct Extent {
  std::int64_t batch, length;
};

// The smallest and largest shape that a TensorRT engine accepts, and the shape it is tuned for.
struct Profile {
  Extent smallest, usual, largest;
};

// The part of engine.json that is needed to run an engine.
struct EngineRecord {
  std::string flavor, version;       // "rtx" or "standard"; the version of that library
  std::vector<std::string> targets;  // "sm89"; empty: only the GPU on which it was built
  std::vector<Profile> profiles;
  std::string model_sha256;  // of the model.onnx that it was built from
};

// The part of manifest.json, or of engine.json, that is needed to run a model.
struct Manifest {
  std::string task, architecture, dtype;
  std::map<std::string, std::int64_t> op_versions;  // of the operators in the graph, by name
  Signature signature;
  std::map<std::string, FileRecord> files;
  std::map<std::string, FormatRecord> formats;  // by name ("onnx", "decoder")
  std::optional<EngineRecord> engine;           // set if the folder holds a TensorRT engine
};

// An opened artifact: its folder and its manifest, checked against each other.
class REFORMER_EXPORT Artifact {
 public:
  // Always checks that every listed file is in the folder and has the listed size, and that
  // external data lie inside listed files. With `check_hashes` it also compares the hash of every
  // file. Throws Error (artifact) that names the wrong file. A file that the manifest does not list
  // is never used.
  static Artifact open(const std::filesystem::path& folder, bool check_hashes = true);

  // The absolute path of the folder, with links resolved.
  const std::filesystem::path& path() const noexcept { return path_; }
  const Manifest& manifest() const noexcept { return manifest_; }
  const Signature& signature() const noexcept { return manifest_.signature; }
  // The names of the formats in which the artifact holds the model.
  std::vector<std::string> formats() const;
  // The path of a listed file; empty if the manifest does not list that name.
  std::filesystem::path file(const std::string& name) const;

 private:
  Artifact(std::filesystem::path path, Manifest manifest)
      : path_(std::move(path)), manifest_(std::move(manifest)) {}

  std::filesystem::path path_;
  Manifest manifest_;
};

}  // namespace reformer
