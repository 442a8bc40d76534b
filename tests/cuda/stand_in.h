// The interface between the tests and the stand-in for NVIDIA's driver.
#pragma once

#include <cstddef>

extern "C" {

// A launch, as the callback of `stand_in_on_launch` receives it.
struct StandInLaunch {
  const char* entry;
  const char* image;  // the cubin or PTX, a copy
  std::size_t image_bytes;
  int gpu;
  unsigned programs, threads, shared_bytes;
  void* stream;
  void** arguments;
};

// Resets the stand-in: GPUs of these compute capabilities (80 for 8.0), an empty log, no failures,
// no callback. Loaded images stay loaded.
void stand_in_reset(int gpus, const int* capabilities);

// The function `name` fails with `code` from its call number `after` on, counted from zero.
void stand_in_fail(const char* name, int code, int after);

// Marks all images as unloaded, and removes all contexts that this thread has pushed.
void stand_in_take_back();

// If `late` is not 0, PTX is compiled when a function of it is requested, not when it is loaded:
// drivers may do either.
void stand_in_compile_late(int late);

// Calls since the last reset, one per line. Returns the size of the whole log in bytes, with the
// final zero.
std::size_t stand_in_log(char* buffer, std::size_t size);

// Sets the callback that executes launches and returns the status of each. Without a callback,
// launches are only logged.
void stand_in_on_launch(int (*execute)(const StandInLaunch*));

int stand_in_images();    // number of loaded images
int stand_in_contexts();  // number of contexts that all threads have pushed and not popped
}
