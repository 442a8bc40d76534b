#include "cuda/loaded_program.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <set>
#include <tuple>

namespace reformer::cuda {
namespace {

// Arguments that are not buffers.
constexpr int kLength = -1, kNull = -2;

constexpr std::size_t kAlignment = 256;  // of each buffer in the working memory

constexpr std::size_t kMost = std::size_t{1} << 62;  // more than any GPU has; sums stay in range

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// An image is loaded once for all nodes and sessions that use it, and unloaded with the last of
// them.
std::shared_ptr<const Image> image_of(const std::shared_ptr<const KernelFile>& file,
                                      const std::string& name, const Device& device) {
  static std::mutex mutex;
  static std::map<std::tuple<const KernelFile*, int, std::string>, std::weak_ptr<const Image>> all;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& known = all[{file.get(), device.index(), name}];
  auto found = known.lock();
  if (found == nullptr) {
    found = std::make_shared<const Image>(name, file->bytes(name));
    known = found;
  }
  return found;
}

// True if the machine code of a program runs on a GPU: on its target, and on later GPUs of the same
// generation unless it has instructions that only the target has.
bool runs_cubin(const Program& program, int capability) {
  return program.target == capability ||
         (program.portable && program.target / 10 == capability / 10 &&
          program.target < capability);
}

bool runs_ptx(const Program& program, int capability) {
  return program.portable && program.target <= capability;
}

std::string sm(int target) { return "sm" + std::to_string(target); }

std::string joined(const std::set<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::string NodeDescription::text() const {
  std::string text = op + " in " + dtype;
  const char* mark = " with ";
  for (const auto& [name, values] : attributes) {
    text += mark + name + " ";
    for (std::size_t i = 0; i < values.size(); ++i)
      text += (i == 0 ? "" : "x") + std::to_string(values[i]);
    mark = ", ";
  }
  return text;
}

LoadedProgram::LoadedProgram(std::shared_ptr<const KernelFile> file, const Program& program,
                             const std::string& suffix, const std::vector<std::string>& operands,
                             const Device& device)
    : file_(std::move(file)), program_(program), device_(device) {
  std::map<std::string, int> numbers{{"length", kLength}, {"", kNull}};
  int next = 0;
  for (const std::string& name : operands) numbers.emplace(name, next++);
  for (const auto& [name, amount] : program.scratch) numbers.emplace(name, next++);
  const Turn turn(device);
  for (const Launch& launch : program.launches) {
    Loaded loaded{image_of(file_, launch.image + suffix, device), nullptr, {}};
    loaded.function = loaded.image->function(launch.entry.c_str(), launch.shared_bytes);
    for (const std::string& name : launch.arguments) {
      const auto found = numbers.find(name);
      if (found == numbers.end())
        throw Error("the kernel " + launch.entry + " takes " + name + ", which " + program_.op +
                    " does not have: make " + file_->path() + " again");
      loaded.arguments.push_back(found->second);
    }
    launches_.push_back(std::move(loaded));
  }
}

std::size_t LoadedProgram::scratch_bytes(std::int64_t batch, std::int64_t length) const {
  std::size_t total = 0;
  for (const auto& [name, amount] : program_.scratch) {
    total += aligned(static_cast<std::size_t>(amount.of(batch, length)));
    if (total > kMost) throw Error(kTooLong);
  }
  return total;
}

void LoadedProgram::run(std::int64_t batch, std::int64_t length, const std::vector<void*>& operands,
                        void* scratch, Stream stream) const {
  std::vector<void*> buffers = operands;
  char* free = static_cast<char*>(scratch);
  for (const auto& [name, amount] : program_.scratch) {
    buffers.push_back(free);
    free += aligned(static_cast<std::size_t>(amount.of(batch, length)));
  }
  const Turn turn(device_);
  auto size = static_cast<std::int32_t>(length);  // no launch accepts a longer sequence
  void* null = nullptr;
  std::vector<void*> arguments;
  bool launched = false;
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    const Launch& launch = program_.launches[i];
    if (length < launch.shortest || length > launch.longest) continue;
    arguments.clear();
    for (const int number : launches_[i].arguments)
      arguments.push_back(number == kLength ? static_cast<void*>(&size)
                          : number == kNull ? &null
                                            : &buffers[number]);
    const std::int64_t programs = launch.programs.of(batch, length);
    if (programs > std::numeric_limits<std::int32_t>::max())
      throw Error(program_.op + " would take " + std::to_string(programs) +
                  " programs, and a GPU launches fewer than 2**31 at once: split the batch");
    reformer::cuda::launch(launches_[i].function, static_cast<unsigned>(programs), launch.threads,
                           launch.shared_bytes, stream, arguments.data());
    launched = true;
  }
  if (!launched)
    throw Error(program_.op + " has no kernel for sequences of " + std::to_string(length));
}

std::vector<LoadedProgram> load_programs(const std::shared_ptr<const KernelFile>& file,
                                         const NodeDescription& node,
                                         const std::vector<std::string>& operands,
                                         const Device& device) {
  // For each shape of heads, the best program for the node on this GPU.
  struct Choice {
    const Program* program = nullptr;
    bool cubin = false;
  };
  std::map<std::map<std::string, std::int64_t>, Choice> best;
  std::set<std::string> targets, other_versions;
  bool known = false;
  for (const Program& program : file->programs()) {
    if (program.op != node.op || program.dtype != node.dtype ||
        program.attributes != node.attributes)
      continue;
    if (program.version != node.version) {
      other_versions.insert(std::to_string(program.version));
      continue;
    }
    known = true;
    targets.insert(sm(program.target));
    const bool cubin = runs_cubin(program, device.capability());
    if (!cubin && !runs_ptx(program, device.capability())) continue;
    Choice& choice = best[program.sizes];
    const auto worth = [](const Choice& c) { return std::make_tuple(c.cubin, c.program->target); };
    const Choice candidate{&program, cubin};
    if (choice.program == nullptr || worth(candidate) > worth(choice)) choice = candidate;
  }
  const std::string remedy =
      "add it with reformer-export add-kernels ARTIFACT --target " + sm(device.capability());
  if (!known && !other_versions.empty())
    throw Error(file->path() + " has kernels for version " + joined(other_versions) + " of " +
                node.op + ", and this library runs version " + std::to_string(node.version) + ": " +
                remedy);
  if (!known) throw Error(file->path() + " has no kernel for " + node.text() + ": " + remedy);
  if (best.empty())
    throw Error(file->path() + " has kernels for " + joined(targets) + ", and this GPU (" +
                device.name() + ") is " + sm(device.capability()) + ": " + remedy);
  std::vector<LoadedProgram> loaded;
  for (const auto& [sizes, choice] : best)
    loaded.emplace_back(file, *choice.program, choice.cubin ? ".cubin" : ".ptx", operands, device);
  return loaded;
}

}  // namespace reformer::cuda
