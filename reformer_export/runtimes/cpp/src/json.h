// Reads fields of an untrusted JSON document, with their types.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace reformer {

// Throws Error (artifact) with a message that begins with `where`, the name of the document.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// One JSON object. Each method returns the value of a field or throws Error (artifact). `where` is
// the path of the object in its document; messages contain it to name the wrong field.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where);

  const std::string& where() const noexcept { return where_; }
  bool has(const std::string& key) const;
  const nlohmann::json& value(const std::string& key) const;
  std::string text(const std::string& key) const;
  std::int64_t integer(const std::string& key, std::int64_t minimum = INT64_MIN) const;
  const nlohmann::json& sequence(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  Fields child(const std::string& key) const;
  std::vector<Fields> children(const std::string& key) const;  // the objects of a list
  std::vector<std::string> names() const;

 private:
  std::string place(const std::string& key) const { return where_ + "." + key; }

  const nlohmann::json* object_;
  std::string where_;
};

// A value for a message: a string in quotes, any other value as JSON. A long text is shortened.
std::string spelled(const nlohmann::json& value);

}  // namespace reformer
