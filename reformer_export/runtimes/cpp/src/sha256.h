// The hash function SHA-256 (FIPS 180-4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace reformer {

class Sha256 {
 public:
  Sha256();
  void update(const void* data, std::size_t size);
  // The hash in hexadecimal. Call it once; do not call update() afterwards.
  std::string finish();

 private:
  void compress(const std::uint8_t* blocks, std::size_t count);

  std::uint32_t state_[8];
  std::uint8_t pending_[64];
  std::uint64_t size_ = 0;
};

}  // namespace reformer
