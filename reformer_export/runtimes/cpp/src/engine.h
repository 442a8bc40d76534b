// Reads a TensorRT engine: a folder with model.engine and its description, engine.json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "reformer/artifact.h"

namespace reformer {

constexpr const char* kEngineRecord = "engine.json";
constexpr const char* kEngineFile = "model.engine";
constexpr const char* kEngineFormat = "tensorrt";
constexpr const char* kEngineRemedy = "build it again with reformer-export to-tensorrt";

// Reads engine.json as a manifest with `engine` set. Throws Error (artifact).
Manifest engine_manifest_from(const nlohmann::json& document, const std::string& where);

// Compares the header of an engine with engine.json. Only the header format of TensorRT-RTX is
// known; engines of standard TensorRT are not checked. Throws Error (artifact).
void check_engine_header(const std::filesystem::path& path, const EngineRecord& record);

// The index of the profile for an input: among the profiles that accept it, the one tuned for the
// nearest length. Throws Error (input) if no profile accepts it.
std::size_t choose_profile(const std::vector<Profile>& profiles, std::int64_t batch,
                           std::int64_t length);

}  // namespace reformer
