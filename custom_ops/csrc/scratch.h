// Working memory of one thread, kept between tasks so that its pages are touched once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace reformer {

// Hands out aligned pieces of one growing block. A piece lives until the next reset().
class Scratch {
 public:
  // The calling thread's own.
  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  // The same for what the calling thread shares with those that work for it.
  static Scratch& of_this_call() {
    static thread_local Scratch scratch;
    return scratch;
  }

  // Makes room for `bytes` in all, alignment included; pieces handed out before are gone.
  void reset(std::size_t bytes) {
    bytes += kAlignment;
    if (bytes > capacity_) {
      block_.reset();  // before the new one is there, so that both never count at once
      block_.reset(new std::byte[bytes]);
      capacity_ = bytes;
    }
    used_ = (kAlignment - reinterpret_cast<std::uintptr_t>(block_.get()) % kAlignment) % kAlignment;
  }

  // An uninitialised array; sizes must add up to no more than what reset() was given.
  template <typename Value>
  Value* take(std::size_t count) {
    Value* piece = reinterpret_cast<Value*>(block_.get() + used_);
    used_ += bytes_of<Value>(count);
    return piece;
  }

  // What take<Value>(count) uses up.
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
