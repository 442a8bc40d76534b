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

// A node of a model, as far as it decides which program computes it.
struct NodeDescription {
  std::string op;
  std::int64_t version;  // of the operator, as this library implements it
  std::string dtype;
  std::map<std::string, std::vector<std::int64_t>> attributes;
  std::string text() const;  // for messages
};

class LoadedProgram {
 public:
  // Loads the kernels: `suffix` is ".cubin" or ".ptx"; `operands` are the operator's inputs and
  // outputs by name, in the order that `run` gets them in. Throws Error.
  LoadedProgram(std::shared_ptr<const KernelFile> file, const Program& program,
                const std::string& suffix, const std::vector<std::string>& operands,
                const Device& device);

  // The axes that are compiled in.
  const std::map<std::string, std::int64_t>& sizes() const { return program_.sizes; }

  // Bytes of working memory that a run needs.
  std::size_t scratch_bytes(std::int64_t batch, std::int64_t length) const;

  // Puts all launches into the stream. `scratch` is the working memory. Throws Error. Threads may
  // call it at the same time.
  void run(std::int64_t batch, std::int64_t length, const std::vector<void*>& operands,
           void* scratch, Stream stream) const;

 private:
  std::shared_ptr<const KernelFile> file_;  // whose bytes the driver may still read
  const Program& program_;
  const Device& device_;
  struct Loaded {
    std::shared_ptr<const Image> image;
    Function function;
    std::vector<int> arguments;  // numbers of operands and, after these, of scratch buffers
  };
  std::vector<Loaded> launches_;
};

// The programs for a node on a GPU, one for each shape of heads that the file knows. Throws Error,
// with the command that makes them, where there are none.
std::vector<LoadedProgram> load_programs(const std::shared_ptr<const KernelFile>& file,
                                         const NodeDescription& node,
                                         const std::vector<std::string>& operands,
                                         const Device& device);

}  // namespace reformer::cuda
