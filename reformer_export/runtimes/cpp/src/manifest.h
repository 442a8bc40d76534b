// Reads manifest.json, and the parts that engine.json shares with it.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "json.h"
#include "reformer/artifact.h"

namespace reformer {

// Names of formats: model.onnx, and the two graphs for generation.
constexpr const char* kOnnxFormat = "onnx";
constexpr const char* kDecoderFormat = "decoder";

// The JSON document in a file. Throws Error (artifact).
nlohmann::json read_document(const std::filesystem::path& path);

// Each function throws Error (artifact) that names the wrong field.
Manifest manifest_from(const nlohmann::json& document, const std::string& where);
Signature signature_from(const Fields& fields);
std::map<std::string, FileRecord> files_from(const Fields& fields);
std::int64_t check_schema(const Fields& fields, std::int64_t newest);

}  // namespace reformer
