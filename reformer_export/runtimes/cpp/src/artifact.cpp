#include "reformer/artifact.h"

#include <nlohmann/json.hpp>
#include <system_error>

#include "engine.h"
#include "files.h"
#include "manifest.h"
#include "messages.h"
#include "onnx_file.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";

fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path folder = fs::canonical(path, error);
  if (error)
    fail(ErrorKind::artifact, "cannot read ", path.string(), ": ", reason_of(error.value()));
  return folder;
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
  return resolved(path);
}

// The document that lists the files of a folder, its name in messages, and the remedy for a damaged
// file.
struct Listing {
  const char *file, *called, *remedy;
};

constexpr Listing kManifestListing{kManifest, "the manifest", "export the model again"};
constexpr Listing kEngineListing{kEngineRecord, kEngineRecord, kEngineRemedy};

void compare(const fs::path& file, const FileRecord& expected, const Listing& listing,
             bool check_hashes) {
  try {
    const auto size = static_cast<std::int64_t>(fs::file_size(file));
    if (size != expected.bytes)
      fail(ErrorKind::artifact, file.string(), " has ", std::to_string(size), " bytes and ",
           listing.called, " says ", std::to_string(expected.bytes), ": it was cut or changed, ",
           listing.remedy);
    if (!check_hashes) return;
    const std::string found = sha256_of(file);
    if (found != expected.sha256)
      fail(ErrorKind::artifact, file.string(), " has sha256 ", found.substr(0, 12), "... and ",
           listing.called, " says ", one_line(expected.sha256.substr(0, 12)),
           "...: it was changed or damaged, ", listing.remedy);
  } catch (const std::system_error& error) {
    fail(ErrorKind::artifact, "cannot read ", file.string(), ": ", reason_of(error.code().value()));
  }
}

void check_files(const fs::path& folder, const Manifest& manifest, const Listing& listing,
                 bool check_hashes) {
  const std::string what = std::string("the file that ") + listing.file + " lists,";
  for (const auto& [name, expected] : manifest.files)
    compare(contained_file(folder, name, what), expected, listing, check_hashes);
}

Manifest open_engine(const fs::path& folder, bool check_hashes) {
  const fs::path record = contained_file(folder, kEngineRecord, "the record");
  Manifest manifest = engine_manifest_from(read_document(record), record.string());
  if (manifest.files.count(kEngineFile) == 0)
    fail(ErrorKind::artifact, record.string(), " does not list ", kEngineFile, ": ", kEngineRemedy);
  check_files(folder, manifest, kEngineListing, check_hashes);
  check_engine_header(folder / kEngineFile, *manifest.engine);
  return manifest;
}

}  // namespace

Artifact Artifact::open(const fs::path& path, bool check_hashes) {
  std::error_code none;
  if (fs::exists(fs::symlink_status(path / kEngineRecord, none))) {
    const fs::path folder = resolved(path);
    return {folder, open_engine(folder, check_hashes)};
  }
  const fs::path folder = folder_at(path);
  const fs::path manifest_path = contained_file(folder, kManifest, "the manifest");
  Manifest manifest = manifest_from(read_document(manifest_path), kManifest);
  if (manifest.formats.empty())
    fail(ErrorKind::artifact, manifest_path.string(), " lists no model: export again");
  for (const auto& [name, record] : manifest.formats)
    for (const std::string& file : record.files)
      if (manifest.files.count(file) == 0)
        fail(ErrorKind::artifact, manifest_path.string(), " says that ", name, " is in ",
             in_quotes(file), ", which it does not list: export again");
  if (manifest.files.count(kManifest) > 0)
    fail(ErrorKind::artifact, manifest_path.string(), " lists itself: export again");
  check_files(folder, manifest, kManifestListing, check_hashes);
  const auto listed = [&](const std::string& name) { return manifest.files.count(name) > 0; };
  for (const auto& [name, record] : manifest.formats) {
    if (name == kOnnxFormat) check_external_data(folder, record.file(), listed);
    if (name == kDecoderFormat)  // two graphs and their weights
      for (int i = 0; i < 2; ++i) check_external_data(folder, record.files[i], listed);
  }
  return {folder, std::move(manifest)};
}

std::vector<std::string> Artifact::formats() const {
  std::vector<std::string> names;
  for (const auto& [name, record] : manifest_.formats) names.push_back(name);
  return names;
}

fs::path Artifact::file(const std::string& name) const {
  return manifest_.files.count(name) > 0 ? path_ / name : fs::path();
}

}  // namespace reformer
