#include "ops_library.h"

#include "library_search.h"
#include "messages.h"
#include "op_versions.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChoices = ": choose one of auto, native, portable";

bool is_choice(const std::string& word) {
  return word == "auto" || word == "native" || word == "portable";
}

// The reason why our kernels cannot run the operators in a format; empty if they can.
std::string mismatch(const Manifest& manifest, const std::string& format) {
  if (manifest.formats.at(format).ops == "portable") return "it was exported with --ops portable";
  const std::string strange = strange_ops(manifest, format);
  return strange.empty() ? "" : "it has " + strange + ", which this release does not know";
}

}  // namespace

std::string strange_ops(const Manifest& manifest, const std::string& format) {
  std::vector<std::string> strange;
  for (const auto* versions : {&manifest.op_versions, &manifest.formats.at(format).op_versions})
    for (const auto& [name, version] : *versions)
      if (const std::int64_t known = op_version(name); known == 0 || known != version)
        strange.push_back(name + " version " + std::to_string(version));
  return joined(strange);
}

std::string requested_ops(const Options& options) {
  if (!is_choice(options.ops))
    fail(ErrorKind::usage, "unknown operators ", in_quotes(options.ops), kChoices);
  if (options.ops != "auto") return options.ops;
  const std::string asked = environment("REFORMER_OPS");
  if (asked.empty()) return "auto";
  if (!is_choice(asked)) fail(ErrorKind::environment, "REFORMER_OPS=", asked, kChoices);
  return asked;
}

std::string chosen_ops(const Artifact& artifact, const std::string& format,
                       const Options& options) {
  const std::string choice = requested_ops(options);
  const std::string reason = mismatch(artifact.manifest(), format);
  if (reason.empty()) return choice;
  if (choice == "native")
    fail(ErrorKind::usage, "the native operators cannot run ", artifact.path().string(), ": ",
         reason);
  return "portable";
}

fs::path ops_library(const std::string& name, const Options& options) {
  std::vector<fs::path> folders;
  std::string remedy = "put it there, or say where it is with --ops-folder";
  if (!options.ops_folder.empty()) {
    folders = {options.ops_folder};
  } else if (const std::string given = environment("REFORMER_OPS_LIBRARY_DIR"); !given.empty()) {
    folders = {given};
    remedy = "build it there, or unset REFORMER_OPS_LIBRARY_DIR";
  } else {
    folders = own_folders();
  }
  std::error_code error;
  for (const fs::path& folder : folders)
    if (fs::is_regular_file(folder / name, error)) return fs::canonical(folder / name);
  fail(ErrorKind::native, "there is no ", name, " in ", alternatives(folders), ": ", remedy);
}

}  // namespace reformer
