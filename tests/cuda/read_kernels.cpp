// Reads all kernel files named on the command line, and prints the result for each file.
#include <cstring>
#include <iostream>

#include "cuda/kernel_file.h"

int main(int count, char** paths) {
  for (int i = 1; i < count; ++i) {
    try {
      const reformer::cuda::KernelFile file(paths[i]);
      std::size_t bytes = 0;
      for (const auto& program : file.programs())
        for (const auto& launch : program.launches)
          for (const char* suffix : {".cubin", ".ptx"}) {
            try {
              bytes += std::strlen(file.bytes(launch.image + suffix));
              (void)launch.programs.of(3, 100);
            } catch (const reformer::Error&) {  // a missing image, or a number that is too large
            }
          }
      std::cout << "read " << file.programs().size() << " programs, " << bytes << " bytes\n";
    } catch (const reformer::Error& error) {
      std::cout << "refused " << error.what() << "\n";
    }
  }
}
