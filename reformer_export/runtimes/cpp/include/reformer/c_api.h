/* The C interface. It lets no exception through; any thread may call every function. */
#ifndef REFORMER_C_API_H
#define REFORMER_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REFORMER_API __attribute__((visibility("default")))

/* The kinds of errors: see reformer/error.h. */
typedef enum reformer_status {
  REFORMER_OK = 0,
  REFORMER_USAGE = 1,
  REFORMER_ARTIFACT = 2,
  REFORMER_INPUT = 3,
  REFORMER_INFERENCE = 4,
  REFORMER_UNAVAILABLE = 5,
  REFORMER_NATIVE = 6,
  REFORMER_ENVIRONMENT = 7,
  REFORMER_OUTPUT = 8,
  REFORMER_NO_MEMORY = 9,
  REFORMER_INTERNAL = 10,
  REFORMER_LIMIT = 11 /* since 0.2: a sequence has reached the maximum length of the model */
} reformer_status;

typedef enum reformer_dtype {
  REFORMER_BOOL,
  REFORMER_INT8,
  REFORMER_INT16,
  REFORMER_INT32,
  REFORMER_INT64,
  REFORMER_UINT8,
  REFORMER_UINT16,
  REFORMER_UINT32,
  REFORMER_UINT64,
  REFORMER_FLOAT16,
  REFORMER_BFLOAT16,
  REFORMER_FLOAT32,
  REFORMER_FLOAT64
} reformer_dtype;

/* The fields are those of reformer::Options; NULL or 0 stands for the default. Set `size` to
   sizeof(reformer_options), so that later releases may add fields. */
typedef struct reformer_options {
  size_t size;
  const char* runtime;
  const char* ops;
  int threads;
  const char* onnxruntime;
  const char* ops_folder;
  const char* tensorrt;
  const char* engine;
  const char* device; /* since 0.2 */
} reformer_options;

/* The numbers of one tensor. Those of an output are valid until its reformer_outputs is freed. */
typedef struct reformer_tensor {
  const char* name;
  reformer_dtype dtype;
  size_t rank;
  const int64_t* shape; /* [rank] */
  const void* data;     /* dense, row-major */
  size_t bytes;
} reformer_tensor;

/* vocab_size is 0 for a model of series. */
typedef struct reformer_limits {
  int64_t vocab_size, min_length, max_length;
} reformer_limits;

typedef struct reformer_session reformer_session;
typedef struct reformer_outputs reformer_outputs;

/* The message of this thread's last call that did not return REFORMER_OK; never NULL. */
REFORMER_API const char* reformer_last_error(void);

/* Checks an artifact without opening it in a runtime. */
REFORMER_API reformer_status reformer_check(const char* artifact);

/* Checks and opens an artifact. `options` may be NULL. */
REFORMER_API reformer_status reformer_open(const char* artifact, const reformer_options* options,
                                           reformer_session** session);
REFORMER_API void reformer_close(reformer_session* session);

/* The runtime with its version, threads and kernels; valid until the session is closed. */
REFORMER_API const char* reformer_description(const reformer_session* session);
REFORMER_API reformer_limits reformer_limits_of(const reformer_session* session);

/* Runs the model on input_ids [batch, length]. attention_mask [batch, length] is 1 for a token and
   0 for padding; NULL means all ones. Threads may share the session. */
REFORMER_API reformer_status reformer_run(const reformer_session* session, const int64_t* input_ids,
                                          const int64_t* attention_mask, int64_t batch,
                                          int64_t length, reformer_outputs** outputs);
/* Runs any model on inputs by name, such as "series", float32 [batch, length, channels]; their
   memory is only read, and only during the call. Since 0.2. */
REFORMER_API reformer_status reformer_run_tensors(const reformer_session* session,
                                                  const reformer_tensor* inputs, size_t count,
                                                  reformer_outputs** outputs);
REFORMER_API size_t reformer_output_count(const reformer_outputs* outputs);
/* Returns REFORMER_USAGE if there is no output with that index. */
REFORMER_API reformer_status reformer_output(const reformer_outputs* outputs, size_t index,
                                             reformer_tensor* tensor);
REFORMER_API void reformer_free_outputs(reformer_outputs* outputs);

/* Generation, since 0.2. */
typedef struct reformer_generator reformer_generator;

/* The fields are those of reformer::GenerationOptions; NULL or 0 stands for the default. Set `size`
   to sizeof(reformer_generation_options), so that later releases may add fields. */
typedef struct reformer_generation_options {
  size_t size;
  int max_new_tokens;
  double repetition_penalty;
  double temperature; /* 0 is the same as no temperature */
  int64_t top_k;
  double top_p;
  uint64_t seed;
  const int64_t* stop; /* [stop_count] ids that end a sequence; NULL: those of the model */
  size_t stop_count;
} reformer_generation_options;

/* Receives the next token of each sequence, [batch]; for a sequence that has ended, the pad token.
   Returns 0 to stop, any other value to continue. */
typedef int (*reformer_on_tokens)(const int64_t* tokens, size_t batch, void* user);

/* Checks and opens an artifact that was exported with --task text-generation-with-past. `options`
   may be NULL. */
REFORMER_API reformer_status reformer_open_generator(const char* artifact,
                                                     const reformer_options* options,
                                                     reformer_generator** generator);
REFORMER_API void reformer_close_generator(reformer_generator* generator);

/* The runtime with its version, threads and kernels; valid until the generator is closed. */
REFORMER_API const char* reformer_generator_description(const reformer_generator* generator);

/* Continues the prompts; prompt i has lengths[i] tokens. Calls `on_tokens` with `user` after each
   step. `options` may be NULL. Returns REFORMER_LIMIT if a sequence has reached the maximum length
   of the model; `on_tokens` has then received all earlier tokens. Threads may share the generator.
 */
REFORMER_API reformer_status reformer_generate(const reformer_generator* generator,
                                               const int64_t* const* prompts, const size_t* lengths,
                                               size_t batch,
                                               const reformer_generation_options* options,
                                               reformer_on_tokens on_tokens, void* user);

#ifdef __cplusplus
}
#endif

#endif /* REFORMER_C_API_H */
