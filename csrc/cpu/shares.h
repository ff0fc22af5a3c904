// The parts of a call, dealt out to its threads.
#pragma once
#include <algorithm>
#include <atomic>

#include "team.h"

namespace gradstep {

// A thread claims what its own share has first, then what others have left: so from call to call most of the
// memory that it meets is still in its own processor's caches, and none waits while there is work.
class Shares {
 public:
  void deal(const Work& work, int threads) {
    const auto count = std::uint32_t(std::clamp(threads, 1, int(most)));
    const auto cut = [&](std::uint32_t k) { return std::uint32_t(std::uint64_t(work.parts) * k / count); };
    work_ = work;
    count_.store(count, std::memory_order_relaxed);
    for (std::uint32_t k = 0; k < count; ++k) {
      Share& share = shares_[k];
      share.first = cut(k), share.end = cut(k + 1);
      share.left.store(share.end - share.first, std::memory_order_release);
    }
  }

  // Does what is left, as thread number `own`, and calls `done` after each part. A thread may come at any
  // time: what a share was dealt stays as it is until the part just taken is done.
  template <class Done>
  void drain(std::uint32_t own, const Done& done) {
    const std::uint32_t count = count_.load(std::memory_order_relaxed);
    for (std::uint32_t k = 0; k < count; ++k) {
      Share& share = shares_[(own + k) % count];
      while (const std::uint32_t n = take(share.left)) {
        const Work work = work_;
        work.task(work.context, work.backwards ? share.first + n - 1 : share.end - n);
        done(work);
      }
    }
  }

  // Takes one from a counter; what stood there before, 0 if there was none to take.
  static std::uint32_t take(std::atomic<std::uint32_t>& counter) {
    std::uint32_t n = counter.load(std::memory_order_relaxed);
    while (n > 0 && !counter.compare_exchange_weak(n, n - 1, std::memory_order_acq_rel)) {
    }
    return n;
  }

 private:
  static constexpr std::uint32_t most = 64;
  struct alignas(64) Share {
    std::atomic<std::uint32_t> left{0};
    std::uint32_t first = 0, end = 0;
  };

  Share shares_[most];
  std::atomic<std::uint32_t> count_{1};
  Work work_{};
};

}  // namespace gradstep
