// How a call is cut into runs of tiles, and shared out.
#pragma once
#include <algorithm>
#include <atomic>
#include <cfenv>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../layout.h"
#include "team.h"

namespace gradstep {

// How many tiles a thread claims at once, and how many elements are worth a thread.
struct Grain {
  std::atomic<std::int64_t> part_tiles{32}, thread_elements{1 << 16};
};
inline Grain grain;

// Memory is read faster in long runs, but a thread that lost its processor holds the others up by one.
inline constexpr std::int64_t parts_of_a_thread = 16;

// Another library may have set this thread to flush denormals to zero, or to round otherwise. A step gives
// the same bits all the same.
class FloatingPointDefaults {
 public:
  FloatingPointDefaults() { set_defaults(); }
  ~FloatingPointDefaults() { restore(); }
  FloatingPointDefaults(const FloatingPointDefaults&) = delete;
  FloatingPointDefaults& operator=(const FloatingPointDefaults&) = delete;

 private:
#if defined(__x86_64__)
  // <cfenv> also saves and loads the x87 unit, which nothing here uses: 230 ns rather than 10.
  void set_defaults() { _mm_setcsr(0x1f80); }  // to nearest, every denormal as it is, no exception traps
  void restore() { _mm_setcsr(before_); }
  const unsigned before_ = _mm_getcsr();
#else
  void set_defaults() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  void restore() { std::fesetenv(&before_); }
  std::fenv_t before_;
#endif
};

// Shares [0, tiles) out as runs: `task(first, last)` is called for each, on some thread. A tile may be
// several times the work of one that a step updates. `backwards` begins each thread's share with its last
// run: caches still hold what a pass before this one ended with.
template <class Task>
void share_runs(std::int64_t elements, std::int64_t tiles, std::int64_t work, const Task& task,
                bool backwards = false) {
  if (tiles == 0) return;
  const std::int64_t worth = elements * work / grain.thread_elements;  // threads that have enough to do
  const int threads = worth < 2 ? 1 : int(std::min<std::int64_t>(worth, num_threads()));
  const std::int64_t share_of_a_thread = tiles / threads;
  const std::int64_t least = std::max<std::int64_t>(1, grain.part_tiles / work);
  const std::int64_t length = threads < 2 ? tiles : std::max(least, share_of_a_thread / parts_of_a_thread);
  const std::int64_t runs = pieces(tiles, length);
  const auto run = [&](std::uint32_t part) {
    const FloatingPointDefaults defaults;
    const std::int64_t first = part * length;
    task(first, std::min(first + length, tiles));
  };
  share({std::uint32_t(runs),
         [](const void* c, std::uint32_t part) { (*static_cast<decltype(run)*>(c))(part); }, &run, backwards},
        threads);
}

}  // namespace gradstep
