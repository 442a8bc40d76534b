#include "ort_cuda.h"

#include <cstdint>
#include <cstring>

namespace reformer::ort {
namespace {

std::vector<std::string> operand_names(const CudaDeclaration& declaration) {
  std::vector<std::string> names;
  for (const Operand& input : declaration.inputs) names.emplace_back(input.name);
  for (const Operand& output : declaration.outputs) names.emplace_back(output.name);
  return names;
}

// Kernels are compiled for addresses that are multiples of 16. At other addresses they would fault,
// and after a fault the process cannot use the GPU any more.
void check_aligned(const char* op, const char* operand, const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0)
    throw Error(std::string(op) + " takes " + operand +
                " at an address that is a multiple of 16: copy it to memory of its own");
}

// The attribute in the form of model.cuda: integers; a number is the bits of its fp32.
std::vector<std::int64_t> attribute_values(const Ort::ConstKernelInfo& node,
                                           const Attribute& declared) {
  switch (declared.kind) {
    case Attribute::Kind::integers:
      return attributes<std::int64_t>(node, declared.name);
    case Attribute::Kind::number: {
      const auto number = attribute<float>(node, declared.name);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &number, sizeof bits);
      return {std::int64_t{bits}};
    }
    case Attribute::Kind::integer:
      break;
  }
  return {attribute<std::int64_t>(node, declared.name)};
}

}  // namespace

Scratch::Scratch(const Ort::KernelContext& context, OrtAllocator* allocator, std::size_t bytes,
                 cuda::Stream stream)
    : allocator_(allocator) {
  if (bytes == 0) return;
  const OrtApi& api = Ort::GetApi();
  if (stream == nullptr) {  // GetScratchBuffer needs a stream
    Ort::ThrowOnError(api.AllocatorAlloc(allocator, bytes, &memory_));
    return;
  }
  const OrtMemoryInfo* info = nullptr;
  Ort::ThrowOnError(api.AllocatorGetInfo(allocator, &info));
  Ort::ThrowOnError(
      api.KernelContext_GetScratchBuffer(context.GetOrtKernelContext(), info, bytes, &memory_));
}

Scratch::~Scratch() {
  if (memory_ == nullptr) return;
  const OrtApi& api = Ort::GetApi();
  if (OrtStatus* status = api.AllocatorFree(allocator_, memory_)) api.ReleaseStatus(status);
}

CudaNode::CudaNode(const OrtKernelInfo* node, CudaDeclaration declaration, const char* dtype,
                   const Kernels& kernels)
    : declaration_(std::move(declaration)) {
  if (kernels == nullptr)
    throw Error(std::string("this session has no kernels for ") + declaration_.name +
                " on a GPU: set the config entry " + kKernelsEntry +
                " of its options to the path of model.cuda before the library is registered; "
                "reformer-export add-kernels ARTIFACT makes it");
  const OrtApi& api = Ort::GetApi();
  OrtAllocator* allocator = nullptr;
  Ort::ThrowOnError(api.KernelInfoGetAllocator(node, OrtMemTypeDefault, &allocator));
  allocator_.reset(allocator);
  int device = 0;
  const OrtMemoryInfo* info = nullptr;
  Ort::ThrowOnError(api.AllocatorGetInfo(allocator, &info));
  Ort::ThrowOnError(api.MemoryInfoGetId(info, &device));

  cuda::NodeDescription description{declaration_.name, declaration_.version, dtype, {}};
  for (const Attribute& each : declaration_.attributes)
    description.attributes[each.name] = attribute_values(Ort::ConstKernelInfo(node), each);
  programs_ = cuda::load_programs(kernels, description, operand_names(declaration_),
                                  cuda::Device::get(device));
}

const cuda::LoadedProgram& CudaNode::program_for(Axes& axes) const {
  for (const cuda::LoadedProgram& program : programs_) {
    bool fits = true;
    for (const auto& [name, size] : program.sizes()) fits = fits && axes[name.c_str()] == size;
    if (fits) return program;
  }
  std::string found;
  for (const auto& [name, size] : programs_.front().sizes())
    found += (found.empty() ? "" : ", ") + std::to_string(axes[name.c_str()]) + " " + name;
  throw Error(std::string("model.cuda has no kernel for ") + declaration_.name + " with " + found +
              ": make it again with reformer-export add-kernels");
}

void CudaNode::compute(const Ort::KernelContext& context) const {
  Axes axes(declaration_.name);
  std::vector<void*> operands;
  for (std::size_t i = 0; i < declaration_.inputs.size(); ++i) {
    const Ort::ConstValue input = context.GetInput(i);
    axes.check(declaration_.inputs[i].name, declaration_.inputs[i].axes(), shape_of(input));
    check_aligned(declaration_.name, declaration_.inputs[i].name, input.GetTensorRawData());
    // A launch takes non-const pointers, although kernels only read inputs.
    operands.push_back(const_cast<void*>(input.GetTensorRawData()));
  }
  declaration_.check(axes);
  const cuda::LoadedProgram& program = program_for(axes);
  for (std::size_t i = 0; i < declaration_.outputs.size(); ++i) {
    Shape shape;
    for (const char* axis : declaration_.outputs[i].axes()) shape.push_back(axes[axis]);
    operands.push_back(context.GetOutput(i, shape).GetTensorMutableRawData());
    check_aligned(declaration_.name, declaration_.outputs[i].name, operands.back());
  }

  const std::int64_t batch = axes["batch"], length = axes["length"];
  const cuda::Stream stream = context.GetGPUComputeStream();
  const Scratch scratch(context, allocator_.get(), program.scratch_bytes(batch, length), stream);
  program.run(batch, length, operands, scratch.get(), stream);
}

}  // namespace reformer::ort
