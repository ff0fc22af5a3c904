// A team of threads that is a good neighbour: the caller takes part in its own work, so it never waits for a
// thread that has not begun; a thread without work sleeps.
#include <pthread.h>
#include <signal.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "shares.h"

namespace gradstep {
namespace {

constexpr int most_workers = 1023;
constexpr int spins = 2000;  // some microseconds: about what a sleep and a wake-up cost

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  // False where another thread's work is under way.
  bool share(const Work& work, int threads) {
    std::unique_lock lock(busy_, std::try_to_lock);
    if (!lock) return false;
    hire(std::min<std::int64_t>(threads, work.parts) - 1);
    keep_off_caller();
    finished_.store(0, std::memory_order_relaxed);
    seats_.store(threads - 1, std::memory_order_relaxed);
    shares_.deal(work, threads);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_one();
    drain(0);
    wait(work.parts);
    return true;
  }

 private:
  void hire(std::int64_t workers) {
    workers = std::min<std::int64_t>(workers, most_workers);
    sigset_t all, before;  // signals are for the threads that Python knows
    if (workers_ >= workers) return;
    kept_off_ = -1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; workers_ < workers; ++workers_) {
        std::thread worker(&Pool::serve, this, call_.load(), workers_ + 1);
        handles_[workers_] = worker.native_handle();
        worker.detach();
      }
    } catch (const std::system_error&) {  // no more threads to be had: those that there are will do
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // Schedulers like to wake a thread where the one that wakes it runs, though another processor is idle:
  // above all those of virtual machines, after a rest. There it waits for a whole time slice and takes no
  // part in the call.
  void keep_off_caller() {
#ifdef __linux__
    const int here = sched_getcpu();
    cpu_set_t others;
    if (here == kept_off_ || sched_getaffinity(0, sizeof others, &others) != 0) return;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (std::uint32_t k = 0; k < workers_; ++k) pthread_setaffinity_np(handles_[k], sizeof others, &others);
    kept_off_ = here;
#endif
  }

  void serve(std::uint32_t heard, std::uint32_t own) {
    for (;;) {
      call_.wait(heard, std::memory_order_acquire);
      heard = call_.load(std::memory_order_acquire);
      if (Shares::take(seats_) == 0) continue;
      for (std::uint32_t k = 0; k < 2 && seats_.load(std::memory_order_relaxed) > k; ++k) call_.notify_one();
      drain(own);
    }
  }

  void drain(std::uint32_t own) {
    shares_.drain(own, [this](const Work& work) {
      if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == work.parts) finished_.notify_one();
    });
  }

  void wait(std::uint32_t parts) {
    for (int i = 0; i < spins; ++i) {
      if (finished_.load(std::memory_order_acquire) == parts) return;
      relax();
    }
    std::uint32_t n;
    while ((n = finished_.load(std::memory_order_acquire)) != parts)
      finished_.wait(n, std::memory_order_acquire);
  }

  std::mutex busy_;
  std::uint32_t workers_ = 0;
  std::thread::native_handle_type handles_[most_workers];
  int kept_off_ = -1;  // a processor, which no worker uses
  Shares shares_;
  alignas(64) std::atomic<std::uint32_t> finished_{0};
  alignas(64) std::atomic<std::uint32_t> seats_{0};
  alignas(64) std::atomic<std::uint32_t> call_{0};
};

// Never destroyed: its threads may outlive static destructors. A forked child has none of the threads and
// begins a pool of its own.
std::atomic<Pool*> current{nullptr};
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });

Pool& pool() {
  Pool* here = current;
  if (here) return *here;
  auto* fresh = new Pool;
  if (current.compare_exchange_strong(here, fresh)) return *fresh;
  delete fresh;
  return *here;
}

}  // namespace

void share_pool(const Work& work, int threads) {
  if (pool().share(work, threads)) return;
  Shares alone;
  alone.deal(work, 1);
  alone.drain(0, [](const Work&) {});
}

}  // namespace gradstep
