// Reason for this check: a runtime opens the location of an external tensor relative to the model's
// folder. A malicious model may name ../../etc/passwd, or a length of a terabyte. ONNX files are
// Protocol Buffers messages (https://protobuf.dev/programming-guides/encoding). Only the fields
// that can contain tensors are read.
#include "onnx_file.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "files.h"
#include "messages.h"

namespace reformer {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepest = 100;  // the limit of Protocol Buffers' own readers

struct Malformed {};

struct Field {
  std::uint64_t number;
  std::uint64_t value;     // if the field is a varint
  std::string_view bytes;  // if the field has any other type
  bool is_message;         // length-delimited: a message, a string or packed numbers
};

// The fields of one message, in order. Throws Malformed.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << (shift < 64 ? shift : 0);
      if (byte < 0x80) return value;
    }
    throw Malformed{};
  }

  Field next() {
    const std::uint64_t tag = varint();
    Field field{tag >> 3, 0, {}, false};
    if (field.number == 0) throw Malformed{};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        return field;
      case 1:
        field.bytes = take(8);
        return field;
      case 2:
        field.bytes = take(varint());
        field.is_message = true;
        return field;
      case 5:
        field.bytes = take(4);
        return field;
      default:  // groups: ONNX has none
        throw Malformed{};
    }
  }

 private:
  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) throw Malformed{};
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
};

// The messages that can contain tensors, and below their fields: see onnx.proto.
enum class Kind { model, graph, node, attribute, function, training, sparse, tensor };

std::optional<Kind> child_of(Kind kind, std::uint64_t field) {
  using Children = std::map<std::uint64_t, Kind>;
  static const std::map<Kind, Children> table{
      {Kind::model, {{7, Kind::graph}, {20, Kind::training}, {25, Kind::function}}},
      {Kind::graph, {{1, Kind::node}, {5, Kind::tensor}, {15, Kind::sparse}}},
      {Kind::node, {{5, Kind::attribute}}},
      {Kind::attribute,
       {{5, Kind::tensor},
        {6, Kind::graph},
        {10, Kind::tensor},
        {11, Kind::graph},
        {22, Kind::sparse},
        {23, Kind::sparse}}},
      {Kind::function, {{7, Kind::node}, {11, Kind::attribute}}},
      {Kind::training, {{1, Kind::graph}, {2, Kind::graph}}},
      {Kind::sparse, {{1, Kind::tensor}, {2, Kind::tensor}}},
      {Kind::tensor, {}},
  };
  const Children& children = table.at(kind);
  const auto found = children.find(field);
  return found == children.end() ? std::nullopt : std::optional(found->second);
}

// The bits of an element, by TensorProto.DataType; 0 for types that cannot be external.
int bits_of(std::uint64_t type) {
  static const int bits[] = {0,   32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64,
                             128, 16, 8, 8, 8,  8,  4,  4,  4, 8, 2,  2,  8,  8};
  return type < std::size(bits) ? bits[type] : 0;
}

// The value of a decimal number as onnx writes it, with digits only.
std::optional<std::uint64_t> count_of(const std::string& text) {
  std::uint64_t count = 0;
  if (text.empty()) return {};
  for (char c : text) {
    if (c < '0' || c > '9') return {};
    if (__builtin_mul_overflow(count, 10u, &count) ||
        __builtin_add_overflow(count, static_cast<std::uint64_t>(c - '0'), &count))
      return UINT64_MAX;  // larger than any file
  }
  return count;
}

class Checker {
 public:
  Checker(const fs::path& folder, const std::string& model,
          const std::function<bool(const std::string&)>& listed)
      : folder_(folder), model_(model), listed_(listed) {}

  void visit(Kind kind, std::string_view bytes, int depth) {
    if (depth > kDeepest) throw Malformed{};
    if (kind == Kind::tensor) return check_tensor(bytes);
    for (Reader reader(bytes); !reader.done();) {
      const Field field = reader.next();
      const auto child = child_of(kind, field.number);
      if (!child) continue;
      if (!field.is_message) throw Malformed{};
      if (kind == Kind::model && *child == Kind::graph) has_graph_ = true;
      visit(*child, field.bytes, depth + 1);
    }
  }

  bool has_graph() const { return has_graph_; }

 private:
  void check_tensor(std::string_view bytes) {
    std::vector<std::int64_t> dims;
    std::map<std::string, std::string> entries;
    std::string name;
    std::uint64_t type = 0, location = 0;
    bool external = false;
    for (Reader reader(bytes); !reader.done();) {
      const Field field = reader.next();
      switch (field.number) {
        case 1:  // dims, packed or as single numbers
          if (field.is_message)
            for (Reader packed(field.bytes); !packed.done();)
              dims.push_back(static_cast<std::int64_t>(packed.varint()));
          else
            dims.push_back(static_cast<std::int64_t>(field.value));
          break;
        case 2:
          type = field.value;
          break;
        case 8:
          name = field.bytes;
          break;
        case 13:
          external = true;
          add_entry(field.bytes, entries);
          break;
        case 14:
          location = field.value;
          break;
        default:
          break;
      }
    }
    if (external || location == 1) check_place(name, type, dims, entries);
  }

  static void add_entry(std::string_view bytes, std::map<std::string, std::string>& entries) {
    std::string key, value;
    for (Reader reader(bytes); !reader.done();) {
      const Field field = reader.next();
      if (field.number == 1) key = field.bytes;
      if (field.number == 2) value = field.bytes;
    }
    entries[key] = value;
  }

  void check_place(const std::string& name, std::uint64_t type,
                   const std::vector<std::int64_t>& dims,
                   std::map<std::string, std::string>& entries) {
    const std::string where = "tensor " + in_quotes(name) + " of " + model_;
    const std::string& file = entries["location"];
    if (!listed_(file))
      fail(ErrorKind::artifact, where, " keeps its data in ", in_quotes(file),
           ", which is not a file of this artifact: do not use it, export the model again");
    const auto [known, is_new] = sizes_.try_emplace(file, 0);
    if (is_new)
      known->second = fs::file_size(contained_file(folder_, file, where + ": its data file"));

    std::uint64_t bits = static_cast<std::uint64_t>(bits_of(type));
    bool negative = false, huge = false;
    for (std::int64_t dim : dims) {
      negative |= dim < 0;
      huge |= dim > 0 && __builtin_mul_overflow(bits, static_cast<std::uint64_t>(dim), &bits);
      if (dim == 0) bits = 0;
    }
    const std::uint64_t needed = huge ? UINT64_MAX / 2 : bits / 8 + (bits % 8 != 0);
    const auto offset = entries.count("offset") ? count_of(entries["offset"]) : 0;
    const auto length = entries.count("length") ? count_of(entries["length"]) : needed;
    if (!offset || !length || bits_of(type) == 0)
      fail(ErrorKind::artifact, where, " has a malformed offset, length or type: it has offset ",
           in_quotes(entries["offset"]), ", length ", in_quotes(entries["length"]), " and type ",
           std::to_string(type));
    if (negative || *length < needed)
      fail(ErrorKind::artifact, where, " has shape ", listed(dims), ", ", std::to_string(needed),
           " bytes, and declares ", std::to_string(*length),
           ": the artifact is damaged, export the model again");
    std::uint64_t end;
    if (__builtin_add_overflow(*offset, *length, &end)) end = UINT64_MAX;
    if (end > known->second)
      fail(ErrorKind::artifact, where, " needs bytes ", std::to_string(*offset), " to ",
           std::to_string(end), " of ", in_quotes(file), ", which has ",
           std::to_string(known->second), ": the artifact is damaged, export the model again");
  }

  const fs::path& folder_;
  const std::string& model_;
  const std::function<bool(const std::string&)>& listed_;
  std::map<std::string, std::uint64_t> sizes_;
  bool has_graph_ = false;
};

}  // namespace

void check_external_data(const fs::path& folder, const std::string& model,
                         const std::function<bool(const std::string&)>& listed) {
  const fs::path path = folder / model;
  const MappedFile file(path);
  Checker checker(folder, model, listed);
  try {
    checker.visit(Kind::model, {file.data(), file.size()}, 0);
  } catch (const Malformed&) {
    fail(ErrorKind::artifact, path.string(), " is not an ONNX model: export it again");
  } catch (const fs::filesystem_error& error) {
    fail(ErrorKind::artifact, "cannot read ", path.string(), ": ", reason_of(error.code().value()));
  }
  if (!checker.has_graph())
    fail(ErrorKind::artifact, path.string(), " holds no graph: export the model again");
}

}  // namespace reformer
