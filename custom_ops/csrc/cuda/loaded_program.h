// A program of model.cuda, with its kernels on one GPU.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "cuda/kernel_file.h"

namespace reformer::cuda {

// The properties of a node that decide which program computes it.
struct NodeDescription {
  std::string op;
  std::int64_t version;  // of the operator, as this library implements it
  std::string dtype;
  std::map<std::string, std::vector<std::int64_t>> attributes;
  std::string text() const;  // for messages
};

class LoadedProgram {
 public:
  // Loads the kernels. `suffix` is ".cubin" or ".ptx". `operands` are the names of the operator's
  // inputs and outputs, in the order of `run`. Throws Error.
  LoadedProgram(std::shared_ptr<const KernelFile> file, const Program& program,
                const std::string& suffix, const std::vector<std::string>& operands,
                const Device& device);

  // The sizes of axes that the kernels are compiled for.
  const std::map<std::string, std::int64_t>& sizes() const { return program_.sizes; }

  // Bytes of working memory that a run needs.
  std::size_t scratch_bytes(std::int64_t batch, std::int64_t length) const;

  // Adds all launches to the stream. `scratch` is the working memory. Throws Error. Threads may
  // call it at the same time.
  void run(std::int64_t batch, std::int64_t length, const std::vector<void*>& operands,
           void* scratch, Stream stream) const;

 private:
  std::shared_ptr<const KernelFile> file_;  // kept, because the driver may still read its bytes
  const Program& program_;
  const Device& device_;
  struct Loaded {
    std::shared_ptr<const Image> image;
    Function function;
    std::vector<int> arguments;  // indices of operands, followed by scratch buffers
  };
  std::vector<Loaded> launches_;
};

// The programs for a node on a GPU, one for each shape of heads in the file. If there are none,
// throws Error with the command that creates them.
std::vector<LoadedProgram> load_programs(const std::shared_ptr<const KernelFile>& file,
                                         const NodeDescription& node,
                                         const std::vector<std::string>& operands,
                                         const Device& device);

}  // namespace reformer::cuda
