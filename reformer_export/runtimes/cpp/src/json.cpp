#include "json.h"

#include <nlohmann/json.hpp>

#include "messages.h"

namespace reformer {
namespace {

using nlohmann::json;

constexpr std::size_t kLongest = 200;  // the maximum bytes of a value in a message
constexpr int kDeepest = 64;           // a manifest has five levels; each level needs memory

[[noreturn]] void mismatch(const std::string& where, const char* wanted, const json& value) {
  std::string found;
  if (value.is_object())
    found = "an object";
  else if (value.is_array())
    found = "a list";
  else if (value.is_string())
    found = "a string";
  else if (value.is_boolean())
    found = "a boolean";
  else
    found = spelled(value);
  fail(ErrorKind::artifact, where, " must be ", wanted, ", found ", found);
}

}  // namespace

json parse_json(std::string_view text, const std::string& where) {
  const auto shallow = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw std::length_error("it is nested too deeply");
    return true;
  };
  try {
    return json::parse(text, shallow);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    // The library's messages begin with an error number in brackets.
    const std::string_view message = error.what();
    const std::size_t bracket = message.front() == '[' ? message.find("] ") : message.npos;
    fail(ErrorKind::artifact, where, " is not valid JSON (",
         one_line(bracket == message.npos ? message : message.substr(bracket + 2)),
         "): the artifact is damaged, export the model again");
  }
}

std::string spelled(const json& value) {
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

Fields::Fields(const json& object, std::string where) : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) mismatch(where_, "an object", object);
}

bool Fields::has(const std::string& key) const { return object_->contains(key); }

const json& Fields::value(const std::string& key) const {
  const auto found = object_->find(key);
  if (found == object_->end())
    fail(ErrorKind::artifact, place(key), " is missing: export the model again");
  return *found;
}

std::string Fields::text(const std::string& key) const {
  const json& found = value(key);
  if (!found.is_string()) mismatch(place(key), "a string", found);
  return found.get<std::string>();
}

std::int64_t Fields::integer(const std::string& key, std::int64_t minimum) const {
  const json& found = value(key);
  if (!found.is_number_integer()) mismatch(place(key), "an integer", found);
  if (found.is_number_unsigned() && found.get<std::uint64_t>() > INT64_MAX)
    fail(ErrorKind::artifact, place(key), " is ", spelled(found), ", which is too large");
  const auto number = found.get<std::int64_t>();
  if (number < minimum)
    fail(ErrorKind::artifact, place(key), " must be at least ", std::to_string(minimum), ", found ",
         std::to_string(number));
  return number;
}

const json& Fields::sequence(const std::string& key) const {
  const json& found = value(key);
  if (!found.is_array()) mismatch(place(key), "a list", found);
  return found;
}

std::vector<std::string> Fields::texts(const std::string& key) const {
  std::vector<std::string> all;
  for (const json& item : sequence(key)) {
    if (!item.is_string())
      mismatch(place(key) + "[" + std::to_string(all.size()) + "]", "a string", item);
    all.push_back(item.get<std::string>());
  }
  return all;
}

Fields Fields::child(const std::string& key) const { return {value(key), place(key)}; }

std::vector<Fields> Fields::children(const std::string& key) const {
  std::vector<Fields> all;
  for (const json& item : sequence(key))
    all.emplace_back(item, place(key) + "[" + std::to_string(all.size()) + "]");
  return all;
}

std::vector<std::string> Fields::names() const {
  std::vector<std::string> names;
  for (const auto& [key, item] : object_->items()) names.push_back(key);
  return names;
}

}  // namespace reformer
