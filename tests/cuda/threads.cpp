// Eight threads load the programs of one file onto three GPUs, two of them of the same kind, run
// the programs and unload them.
//
// Half of the threads share loaded programs, the others load programs for every run. Every launch
// must get the buffers and the length of its own thread. Prints the number of launches, and of the
// images and contexts that are left.
#include <atomic>
#include <cstdint>
#include <iostream>
#include <thread>

#include "cuda/loaded_program.h"
#include "stand_in.h"

namespace {

using namespace reformer::cuda;

constexpr int kThreads = 8, kRuns = 60, kGpus = 3;
const std::vector<std::string> kOperands{"query", "key", "value", "mask", "output"};

// The current run of the thread.
thread_local int length_now = 0, gpu_now = -1;
thread_local char buffers[6];

std::atomic<int> launches{0}, wrong{0};

int execute(const StandInLaunch* launch) {
  bool right = launch->gpu == gpu_now;
  right = right && *static_cast<const std::int32_t*>(launch->arguments[4]) == length_now;
  for (const int argument : {0, 1, 2, 3, 5})
    right = right && *static_cast<char**>(launch->arguments[argument]) ==
                         buffers + (argument == 5 ? 4 : argument);
  ++launches;
  if (!right) ++wrong;
  return 0;
}

std::vector<LoadedProgram> load(const std::shared_ptr<const KernelFile>& file, int chunk_length,
                                int gpu) {
  const NodeDescription node{"ChunkAttention",
                             1,
                             "float16",
                             {{"causal", {1}},
                              {"chunk_length", {chunk_length}},
                              {"num_chunks_after", {0}},
                              {"num_chunks_before", {1}}}};
  return load_programs(file, node, kOperands, Device::get(gpu));
}

void run(const std::vector<LoadedProgram>& programs, int gpu, int length) {
  gpu_now = gpu;
  length_now = length;
  std::vector<void*> operands;
  for (int i = 0; i < 5; ++i) operands.push_back(buffers + i);
  for (const LoadedProgram& program : programs) program.run(2, length, operands, nullptr, nullptr);
}

}  // namespace

int main(int, char** arguments) {
  const int capabilities[kGpus] = {80, 90, 80};
  stand_in_reset(kGpus, capabilities);
  stand_in_on_launch(execute);
  {
    const auto file = std::make_shared<const KernelFile>(arguments[1]);
    std::vector<std::vector<LoadedProgram>> shared(kGpus);
    for (int gpu = 0; gpu < kGpus; ++gpu) shared[gpu] = load(file, 8, gpu);
    std::cout << stand_in_images() << " images for " << kGpus << " GPUs\n";
    std::vector<std::thread> threads;
    for (int number = 0; number < kThreads; ++number)
      threads.emplace_back([&, number] {
        for (int i = 0; i < kRuns; ++i) {
          const int gpu = (number + i) % kGpus, length = 1 + 100 * number + i;
          if (number % 2 == 0)
            run(shared[gpu], gpu, length);
          else
            run(load(file, i % 3 == 0 ? 8 : 16, gpu), gpu, length);
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  std::cout << launches << " launches, " << wrong << " wrong, " << stand_in_images() << " images, "
            << stand_in_contexts() << " contexts\n";
}
