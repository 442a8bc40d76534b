#include "inputs.h"

#include <system_error>

#include "files.h"
#include "messages.h"
#include "npy.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

// Checks the path of --output. The suffix is required, so that a typing error cannot overwrite a
// model or a text.
void check_destination(const fs::path& path, const char* suffix) {
  std::error_code error;
  if (path.extension() != suffix)
    fail(ErrorKind::usage, "--output ", path.string(), ": name a ", suffix, " file");
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (fs::is_directory(path, error) || !fs::is_directory(folder, error))
    fail(ErrorKind::usage, "--output ", path.string(),
         ": its folder does not exist, or it is one: name a file");
}

std::string read_text(const fs::path& path) {
  try {
    return read_whole(path);
  } catch (const std::system_error& error) {
    fail(ErrorKind::input, "cannot read ", path.string(), ": ", reason_of(error.code().value()));
  }
}

}  // namespace

void check_files(const Arguments& arguments, const char* suffix) {
  if (arguments.input_ids.has_value() + arguments.text.has_value() +
          arguments.text_file.has_value() + arguments.series.has_value() !=
      1)
    fail(ErrorKind::usage, "give exactly one of --input-ids, --text, --text-file and --series");
  if (arguments.attention_mask && !arguments.input_ids)
    fail(ErrorKind::usage, "--attention-mask goes with --input-ids: a text has no padding");
  if (arguments.time_features && !arguments.series)
    fail(ErrorKind::usage, "--time-features goes with --series");
  if (arguments.output) check_destination(*arguments.output, suffix);
}

Inputs read_inputs(const Arguments& arguments, const Artifact& artifact) {
  std::optional<ByteCodec> codec;
  NamedTensors inputs;
  const bool of_series = artifact.signature().kind == SignatureKind::series;
  if (of_series && !arguments.series)
    fail(ErrorKind::usage, artifact.path().string(), " takes series of numbers: give --series");
  if (!of_series && arguments.series)
    fail(ErrorKind::usage, artifact.path().string(),
         " takes tokens: give --input-ids, --text or --text-file");
  if (of_series) {
    inputs.emplace_back("series", read_series_npy(*arguments.series, "series"));
    if (arguments.time_features)
      inputs.emplace_back("time_features",
                          read_series_npy(*arguments.time_features, "time_features"));
  } else if (arguments.input_ids) {
    inputs.emplace_back("input_ids", read_npy(*arguments.input_ids, "input_ids"));
    if (arguments.attention_mask)
      inputs.emplace_back("attention_mask", read_npy(*arguments.attention_mask, "attention_mask"));
  } else {
    codec = open_codec(artifact, arguments.tokenizer);
    inputs.emplace_back(
        "input_ids",
        codec->encode(arguments.text ? *arguments.text : read_text(*arguments.text_file)));
  }
  return {artifact.signature().check(inputs), std::move(codec)};
}

void save(const fs::path& path, const std::function<void(std::FILE*)>& write) {
  try {
    write_atomically(path, write);
  } catch (const std::system_error& error) {
    fail(ErrorKind::output, "cannot write ", path.string(), ": ", reason_of(error.code().value()),
         "; nothing was written");
  }
}

}  // namespace reformer
