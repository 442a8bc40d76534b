// Brings an exception from a worker thread to the thread that waits.
#pragma once

#include <atomic>
#include <exception>

namespace reformer {

// An exception that leaves a worker ends the process in one framework and loses its message in the
// other. So none does: the first is kept, tasks that have not begun are skipped.
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

  // Once all workers are done.
  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

}  // namespace reformer
