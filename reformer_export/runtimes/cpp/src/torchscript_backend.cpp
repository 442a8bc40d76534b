// Runs model.pt with libtorch. It is built only with REFORMER_LIBTORCH.
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/script.h>
#include <torch/version.h>

#include "backend.h"
#include "messages.h"
#include "ops_library.h"

namespace reformer {
namespace {

constexpr const char* kFormat = "torchscript";
constexpr const char* kOpsLibrary = "libreformer_ops_torch.so";

// Loads the operators that the file needs. Returns the name of their implementation.
std::string prepare_operators(const Artifact& artifact, const Options& options) {
  const FormatRecord& record = artifact.manifest().formats.at(kFormat);
  const std::string choice = requested_ops(options);
  const std::string again = "export with to-torchscript --ops ";
  const std::string file = record.file() + " of " + artifact.path().string();
  if (record.ops == "portable") {
    if (choice == "native")
      fail(ErrorKind::usage, "the native operators cannot run ", file,
           ": it was exported with --ops portable; ", again, "native");
    return "portable operators";
  }
  if (const std::string strange = strange_ops(artifact.manifest(), kFormat); !strange.empty())
    fail(ErrorKind::unavailable, file, " has ", strange,
         ", which this release does not know: ", again, "portable");
  if (choice == "portable")
    fail(ErrorKind::usage, file, " needs the library of our operators: ", again, "portable");
  const auto path = ops_library(kOpsLibrary, options);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);  // registers the operators
  if (library == nullptr)
    fail(ErrorKind::native, path.string(), " does not load (", one_line(::dlerror()),
         "): install again, or ", again, "portable");
  using Isa = int (*)(char*, std::size_t);
  const auto isa = reinterpret_cast<Isa>(::dlsym(library, "reformer_ops_isa"));
  char text[1024] = "unknown";
  if (isa != nullptr && isa(text, sizeof text) != 0) fail(ErrorKind::environment, text);
  return std::string("native operators (") + text + ")";
}

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return at::kBool;
    case DType::int32:
      return at::kInt;
    case DType::int64:
      return at::kLong;
    case DType::float16:
      return at::kHalf;
    case DType::bfloat16:
      return at::kBFloat16;
    case DType::float32:
      return at::kFloat;
    case DType::float64:
      return at::kDouble;
    default:
      return at::ScalarType::Undefined;
  }
}

// The output as a Tensor that uses torch's memory.
Tensor tensor_from(const at::Tensor& given, const TensorSpec& spec) {
  if (given.scalar_type() != scalar_type(spec.dtype))
    fail(ErrorKind::inference, "torchscript did not return ", spec.name, " as ",
         dtype_name(spec.dtype), ", the type in the manifest");
  auto kept = std::make_shared<at::Tensor>(given.contiguous());
  void* memory = kept->data_ptr();
  const Shape shape(kept->sizes().begin(), kept->sizes().end());
  return {spec.dtype, shape, std::shared_ptr<void>(std::move(kept), memory)};
}

class TorchScriptBackend : public Backend {
 public:
  TorchScriptBackend(const Artifact& artifact, const Options& options)
      : signature_(artifact.signature()) {
    const std::string operators = prepare_operators(artifact, options);
    const auto path = artifact.file(artifact.manifest().formats.at(kFormat).file());
    try {
      module_ = torch::jit::load(path.string(), at::kCPU);
      module_.eval();
    } catch (const std::exception& error) {
      fail(ErrorKind::unavailable, "torch ", TORCH_VERSION, " cannot load ", path.string(), ": ",
           first_line(error));
    }
    if (options.threads > 0) at::set_num_threads(options.threads);  // for the whole process
    description = std::string("torch ") + TORCH_VERSION + ", " +
                  std::to_string(at::get_num_threads()) + " threads, " + operators;
  }

  NamedTensors run(const NamedTensors& inputs) const override {
    const c10::InferenceMode guard;
    try {
      std::vector<c10::IValue> arguments;
      for (const TensorSpec& spec : signature_.inputs) {
        const Tensor& tensor = *find(inputs, spec.name);
        // The API takes a non-const pointer, although torch only reads inputs.
        arguments.emplace_back(at::from_blob(const_cast<void*>(tensor.raw()), tensor.shape(),
                                             scalar_type(tensor.dtype())));
      }
      torch::jit::Module module = module_;  // forward() is not const; copies share the model
      const auto results = module.forward(std::move(arguments)).toGenericDict();
      NamedTensors outputs;
      for (const TensorSpec& spec : signature_.outputs)
        outputs.emplace_back(spec.name, tensor_from(results.at(spec.name).toTensor(), spec));
      return outputs;
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      fail(ErrorKind::inference, "torchscript failed on ", signature_.extent(inputs), ": ",
           first_line(error));
    }
  }

 private:
  // The rest of the message is a stack trace of torch.
  static std::string first_line(const std::exception& error) {
    const std::string text = error.what();
    return one_line(text.substr(0, text.find('\n')));
  }

  const Signature signature_;
  torch::jit::Module module_;
};

}  // namespace

Runtime torchscript_runtime() {
  return {
      kFormat,
      kFormat,
      "to-torchscript",
      nullptr,
      false,
      [](const Artifact& artifact, const Options& options, std::vector<std::string>&) {
        return std::unique_ptr<Backend>(std::make_unique<TorchScriptBackend>(artifact, options));
      }};
}

}  // namespace reformer
