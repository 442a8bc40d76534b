// Passes an exception from a worker thread to the thread that waits.
#pragma once

#include <atomic>
#include <exception>

namespace reformer {

// If an exception leaves a worker thread, one framework ends the process and the other loses the
// message. So the first exception is stored here, and tasks that have not started are skipped.
class FirstError {
 public:
  template <typename Function>
  void run(Function&& function) noexcept {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      function();
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  // Call it when all workers are done.
  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

}  // namespace reformer
