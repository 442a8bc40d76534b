// Working memory of one thread. It is kept between tasks, so that the system maps its pages only
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace reformer {

// Allocates aligned arrays from one block that grows. An array is valid until the next reset().
class Scratch {
 public:
  // The memory of the calling thread.
  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  // Other memory of the calling thread, for data that it shares with its worker threads.
  static Scratch& of_this_call() {
    static thread_local Scratch scratch;
    return scratch;
  }

  // Makes room for `bytes` in total, including alignment. Earlier arrays become invalid.
  void reset(std::size_t bytes) {
    bytes += kAlignment;
    if (bytes > capacity_) {
      block_.reset();  // first, so that both blocks never exist at the same time
      block_.reset(new std::byte[bytes]);
      capacity_ = bytes;
    }
    used_ = (kAlignment - reinterpret_cast<std::uintptr_t>(block_.get()) % kAlignment) % kAlignment;
  }

  // An uninitialised array. All arrays together must fit into the bytes of reset().
  template <typename Value>
  Value* take(std::size_t count) {
    Value* piece = reinterpret_cast<Value*>(block_.get() + used_);
    used_ += bytes_of<Value>(count);
    return piece;
  }

  // The bytes that take<Value>(count) uses.
  template <typename Value>
  static constexpr std::size_t bytes_of(std::size_t count) {
    return (count * sizeof(Value) + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  std::unique_ptr<std::byte[]> block_;
  std::size_t capacity_ = 0, used_ = 0;
};

}  // namespace reformer
