/* Prints the likeliest token after a text, with a byte-level model: next_token_c ARTIFACT TEXT */
#include <reformer/c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(void) {
  fprintf(stderr, "error: %s\n", reformer_last_error());
  return 1;
}

int main(int count, char** arguments) {
  reformer_session* session;
  reformer_outputs* outputs;
  reformer_tensor logits;
  int64_t *ids, length, vocabulary, best = 0, i;
  const float* last;
  if (count != 3) {
    fprintf(stderr, "usage: next_token_c ARTIFACT TEXT\n");
    return 2;
  }
  if (reformer_open(arguments[1], NULL, &session) != REFORMER_OK) return failed();
  fprintf(stderr, "%s\n", reformer_description(session));

  length = (int64_t)strlen(arguments[2]);
  ids = malloc((size_t)(length + 1) * sizeof *ids);
  if (ids == NULL) return 1;
  /* In a vocabulary of 258, two special ids precede the bytes. */
  for (i = 0; i < length; ++i)
    ids[i] =
        (unsigned char)arguments[2][i] + (reformer_limits_of(session).vocab_size == 258 ? 2 : 0);
  if (reformer_run(session, ids, NULL, 1, length, &outputs) != REFORMER_OK) return failed();
  free(ids);

  if (reformer_output(outputs, 0, &logits) != REFORMER_OK) return failed();
  vocabulary = logits.shape[logits.rank - 1]; /* logits are [1, length, vocabulary] */
  last = (const float*)logits.data + (length - 1) * vocabulary;
  for (i = 1; i < vocabulary; ++i)
    if (last[i] > last[best]) best = i;
  printf("%ld\n", (long)best);
  reformer_free_outputs(outputs);
  reformer_close(session);
  return 0;
}
