// A TensorRT engine: a folder with model.engine and engine.json, which says what is in it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "reformer/artifact.h"

namespace reformer {

constexpr const char* kEngineRecord = "engine.json";
constexpr const char* kEngineFile = "model.engine";
constexpr const char* kEngineFormat = "tensorrt";
constexpr const char* kEngineRemedy = "build it again with reformer-export to-tensorrt";

// engine.json as a manifest, in which `engine` is set. Throws Error (artifact).
Manifest engine_manifest_from(const nlohmann::json& document, const std::string& where);

// Holds the first bytes of an engine, which say what it is, against its record; those of standard
// TensorRT are not known well enough. Throws Error (artifact).
void check_engine_header(const std::filesystem::path& path, const EngineRecord& record);

// The profile for an input: among those that take it, the one tuned for the nearest length. Throws
// Error (input) where none does.
std::size_t choose_profile(const std::vector<Profile>& profiles, std::int64_t batch,
                           std::int64_t length);

}  // namespace reformer
