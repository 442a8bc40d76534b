// What tests tell the stand-in for NVIDIA's driver, and what it tells them.
#pragma once

#include <cstddef>

extern "C" {

// A launch, as `stand_in_on_launch` is told it.
struct StandInLaunch {
  const char* entry;
  const char* image;  // the cubin or PTX, a copy
  std::size_t image_bytes;
  int gpu;
  unsigned programs, threads, shared_bytes;
  void* stream;
  void** arguments;
};

// Anew: GPUs of these compute capabilities (80 for 8.0), an empty log, no failures, nobody to tell.
// What is loaded stays.
void stand_in_reset(int gpus, const int* capabilities);

// From its call number `after` on, counted from zero, the function of this name fails with `code`.
void stand_in_fail(const char* name, int code, int after);

// What is loaded, and what this thread has pushed, is so no more.
void stand_in_take_back();

// PTX is compiled when a kernel of it is asked for and not when it is loaded: drivers may do
// either.
void stand_in_compile_late(int late);

// Calls since the last reset, a line each. Gives the bytes that all of it takes, with the last
// zero.
std::size_t stand_in_log(char* buffer, std::size_t size);

// Executes launches; what it gives is the driver's answer. Without, launches are only written down.
void stand_in_on_launch(int (*execute)(const StandInLaunch*));

int stand_in_images();    // that are loaded
int stand_in_contexts();  // that all threads have pushed and not popped
}
