#include "reformer/c_api.h"

#include <cstddef>
#include <exception>
#include <new>

#include "messages.h"
#include "reformer/reformer.h"

// The opaque types of c_api.h.
struct reformer_session {
  reformer::Session session;
};

struct reformer_outputs {
  reformer::NamedTensors tensors;
};

struct reformer_generator {
  reformer::Generator generator;
};

namespace {

thread_local std::string last_error;

reformer_status status_of(reformer::ErrorKind kind) {
  switch (kind) {
    case reformer::ErrorKind::usage:
      return REFORMER_USAGE;
    case reformer::ErrorKind::artifact:
      return REFORMER_ARTIFACT;
    case reformer::ErrorKind::input:
      return REFORMER_INPUT;
    case reformer::ErrorKind::inference:
      return REFORMER_INFERENCE;
    case reformer::ErrorKind::unavailable:
      return REFORMER_UNAVAILABLE;
    case reformer::ErrorKind::native:
      return REFORMER_NATIVE;
    case reformer::ErrorKind::environment:
      return REFORMER_ENVIRONMENT;
    case reformer::ErrorKind::output:
      return REFORMER_OUTPUT;
    case reformer::ErrorKind::limit:
      return REFORMER_LIMIT;
  }
  return REFORMER_INTERNAL;
}

reformer_status failed(reformer_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

// Runs the function. An exception becomes a status, and its message becomes this thread's last
// error.
template <typename Function>
reformer_status guarded(Function&& function) noexcept {
  try {
    function();
    return REFORMER_OK;
  } catch (const reformer::Error& error) {
    return failed(status_of(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(REFORMER_NO_MEMORY, "out of memory: use a shorter sequence or a smaller batch");
  } catch (const std::exception& error) {
    return failed(REFORMER_INTERNAL, error.what());
  } catch (...) {
    return failed(REFORMER_INTERNAL, "unexpected error");
  }
}

void require(const void* argument, const char* name) {
  if (argument == nullptr) reformer::fail(reformer::ErrorKind::usage, name, " is NULL");
}

reformer::Options options_from(const reformer_options* given) {
  reformer::Options options;
  if (given == nullptr) return options;
  // The size of the struct in the first release. A program compiled with that release does not have
  // the later fields.
  constexpr std::size_t first = offsetof(reformer_options, tensorrt);
  if (given->size < first)
    reformer::fail(reformer::ErrorKind::usage,
                   "reformer_options.size is not set: sizeof(reformer_options)");
  const auto text = [](const char* value, const char* otherwise) {
    return std::string(value == nullptr ? otherwise : value);
  };
  options.runtime = text(given->runtime, "auto");
  options.ops = text(given->ops, "auto");
  options.threads = given->threads;
  options.onnxruntime = text(given->onnxruntime, "");
  options.ops_folder = text(given->ops_folder, "");
  if (given->size >= offsetof(reformer_options, device)) {
    options.tensorrt = text(given->tensorrt, "");
    options.engine = text(given->engine, "");
  }
  if (given->size >= sizeof(reformer_options)) options.device = text(given->device, "cpu");
  return options;
}

reformer::GenerationOptions options_from(const reformer_generation_options* given) {
  reformer::GenerationOptions options;
  if (given == nullptr) return options;
  if (given->size < sizeof(reformer_generation_options))
    reformer::fail(reformer::ErrorKind::usage,
                   "reformer_generation_options.size is not set: "
                   "sizeof(reformer_generation_options)");
  if (given->max_new_tokens != 0) options.max_new_tokens = given->max_new_tokens;
  if (given->repetition_penalty != 0) options.repetition_penalty = given->repetition_penalty;
  if (given->temperature != 0) options.temperature = given->temperature;
  options.top_k = given->top_k;
  if (given->top_p != 0) options.top_p = given->top_p;
  options.seed = given->seed;
  if (given->stop != nullptr)
    options.stop = reformer::TokenIds(given->stop, given->stop + given->stop_count);
  return options;
}

}  // namespace

static_assert(static_cast<int>(reformer::DType::float64) == REFORMER_FLOAT64);

extern "C" {

const char* reformer_last_error(void) { return last_error.c_str(); }

reformer_status reformer_check(const char* artifact) {
  return guarded([&] {
    require(artifact, "artifact");
    reformer::Artifact::open(artifact);
  });
}

reformer_status reformer_open(const char* artifact, const reformer_options* options,
                              reformer_session** session) {
  return guarded([&] {
    require(artifact, "artifact");
    require(session, "session");
    *session = nullptr;
    const auto opened = reformer::Artifact::open(artifact);
    *session = new reformer_session{reformer::Session(opened, options_from(options))};
  });
}

void reformer_close(reformer_session* session) { delete session; }

const char* reformer_description(const reformer_session* session) {
  return session == nullptr ? "" : session->session.description().c_str();
}

reformer_limits reformer_limits_of(const reformer_session* session) {
  if (session == nullptr) return {0, 0, 0};
  const reformer::Signature& signature = session->session.signature();
  return {signature.vocab_size, signature.min_length, signature.max_length};
}

reformer_status reformer_run(const reformer_session* session, const int64_t* input_ids,
                             const int64_t* attention_mask, int64_t batch, int64_t length,
                             reformer_outputs** outputs) {
  return guarded([&] {
    require(session, "session");
    require(input_ids, "input_ids");
    require(outputs, "outputs");
    *outputs = nullptr;
    // Uses the caller's memory, which is only read, and only during this call.
    const auto borrowed = [&](const int64_t* values) {
      return reformer::Tensor(reformer::DType::int64, {batch, length},
                              std::shared_ptr<void>(const_cast<int64_t*>(values), [](void*) {}));
    };
    reformer::NamedTensors inputs{{"input_ids", borrowed(input_ids)}};
    if (attention_mask != nullptr) inputs.emplace_back("attention_mask", borrowed(attention_mask));
    *outputs = new reformer_outputs{session->session.run(inputs)};
  });
}

reformer_status reformer_run_tensors(const reformer_session* session, const reformer_tensor* inputs,
                                     size_t count, reformer_outputs** outputs) {
  return guarded([&] {
    require(session, "session");
    require(inputs, "inputs");
    require(outputs, "outputs");
    *outputs = nullptr;
    reformer::NamedTensors given;
    for (size_t i = 0; i < count; ++i) {
      const reformer_tensor& input = inputs[i];
      require(input.name, "the name of an input");
      require(input.data, input.name);
      require(input.shape, "the shape of an input");
      if (input.dtype > REFORMER_FLOAT64)
        reformer::fail(reformer::ErrorKind::usage, input.name, " has no known dtype");
      const reformer::Shape shape(input.shape, input.shape + input.rank);
      const reformer::Tensor tensor(
          static_cast<reformer::DType>(input.dtype), shape,
          std::shared_ptr<void>(const_cast<void*>(input.data), [](void*) {}));
      if (tensor.bytes() != input.bytes)
        reformer::fail(reformer::ErrorKind::usage, input.name, " has ", std::to_string(input.bytes),
                       " bytes, and its shape needs ", std::to_string(tensor.bytes()));
      given.emplace_back(input.name, tensor);
    }
    *outputs = new reformer_outputs{session->session.run(given)};
  });
}

size_t reformer_output_count(const reformer_outputs* outputs) {
  return outputs == nullptr ? 0 : outputs->tensors.size();
}

reformer_status reformer_output(const reformer_outputs* outputs, size_t index,
                                reformer_tensor* tensor) {
  return guarded([&] {
    require(outputs, "outputs");
    require(tensor, "tensor");
    if (index >= outputs->tensors.size())
      reformer::fail(reformer::ErrorKind::usage, "there is no output ", std::to_string(index),
                     " of ", std::to_string(outputs->tensors.size()));
    const auto& [name, found] = outputs->tensors[index];
    *tensor = {name.c_str(),         static_cast<reformer_dtype>(found.dtype()),
               found.shape().size(), found.shape().data(),
               found.raw(),          found.bytes()};
  });
}

void reformer_free_outputs(reformer_outputs* outputs) { delete outputs; }

reformer_status reformer_open_generator(const char* artifact, const reformer_options* options,
                                        reformer_generator** generator) {
  return guarded([&] {
    require(artifact, "artifact");
    require(generator, "generator");
    *generator = nullptr;
    const auto opened = reformer::Artifact::open(artifact);
    *generator = new reformer_generator{reformer::Generator(opened, options_from(options))};
  });
}

void reformer_close_generator(reformer_generator* generator) { delete generator; }

const char* reformer_generator_description(const reformer_generator* generator) {
  return generator == nullptr ? "" : generator->generator.description().c_str();
}

reformer_status reformer_generate(const reformer_generator* generator,
                                  const int64_t* const* prompts, const size_t* lengths,
                                  size_t batch, const reformer_generation_options* options,
                                  reformer_on_tokens on_tokens, void* user) {
  return guarded([&] {
    require(generator, "generator");
    require(prompts, "prompts");
    require(lengths, "lengths");
    require(reinterpret_cast<const void*>(on_tokens), "on_tokens");
    std::vector<reformer::TokenIds> given;
    for (size_t i = 0; i < batch; ++i) {
      if (lengths[i] > 0) require(prompts[i], "a prompt");
      given.emplace_back(prompts[i], prompts[i] + lengths[i]);
    }
    generator->generator.generate(given, options_from(options),
                                  [&](const reformer::TokenIds& tokens) {
                                    return on_tokens(tokens.data(), tokens.size(), user) != 0;
                                  });
  });
}

}  // extern "C"
