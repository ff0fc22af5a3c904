// Calls from several threads at once, without Python, so that a sanitizer sees this package's code and no
// other. Exits 0 if every result was exact.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "../../csrc/backend.h"
#include "../../csrc/cpu/cpu.h"
#include "../../csrc/cpu/runs.h"
#include "../../csrc/cpu/shares.h"
#include "../../csrc/cpu/team.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__
#endif
#endif

namespace {

using namespace gradstep;

constexpr int calls = 4000;
constexpr double lr = 0.25;
#ifdef __SANITIZE_THREAD__
constexpr bool forks = false;  // a child of several threads is more than ThreadSanitizer follows
#else
constexpr bool forks = true;
#endif

int index_of(std::string_view name) {
  for (std::size_t i = 0; i < rules().size(); ++i)
    if (rules()[i].name == name) return int(i);
  std::abort();
}

// Whole numbers times a quarter: no step rounds, so what `steps` of them give is known.
template <class T>
struct Array {
  std::vector<T> p, g;

  explicit Array(int n) : p(n), g(n) {
    for (int i = 0; i < n; ++i) p[i] = T(i % 100), g[i] = T(i % 7 - 3);
  }

  // One run of memory has as many chunks as tiles.
  Tensor tensor(Storage storage, std::int64_t first_tile, const Hyper& hyper) {
    const auto n = std::int64_t(p.size());
    return {.p_storage = storage,
            .g_storage = storage,
            .p = p.data(),
            .g = g.data(),
            .s = {},
            .master = nullptr,
            .average = nullptr,
            .n = n,
            .slot = 0,
            .step = 1,
            .hyper = &hyper,
            .layout = nullptr,
            .first_tile = first_tile,
            .tiles = (n + tile_elements - 1) / tile_elements,
            .first_chunk = first_tile};
  }

  bool exact(int steps) const {
    for (int i = 0; i < int(p.size()); ++i)
      if (p[i] != T(i % 100 - steps * lr * (i % 7 - 3))) return false;
    return true;
  }
};

// Two arrays that step in one call, neither a whole number of tiles.
class Model {
 public:
  bool step(int n) {
    for (int i = 0; i < n; ++i) {
      survey(tensors_, 1, false, chunks_.data());
      update(rule_, tensors_, {});
    }
    steps_ += n;
    return singles_.exact(steps_) && doubles_.exact(steps_) && std::ranges::all_of(chunks_, &Chunk::finite);
  }

 private:
  const int rule_ = index_of("gradient_descent");
  const Hyper hyper_{{lr}};
  Array<float> singles_{3 * tile_elements + 17};
  Array<double> doubles_{2 * tile_elements + 1};
  const Tensor first_ = singles_.tensor(Storage::f32, 0, hyper_);
  const std::vector<Tensor> tensors_{first_, doubles_.tensor(Storage::f64, first_.tiles, hyper_)};
  std::vector<Chunk> chunks_ = std::vector<Chunk>(tensors_.back().first_chunk + tensors_.back().chunks());
  int steps_ = 0;
};

// Each part once, and all of them before `share` returns. The counts are not atomic: a part done twice is a
// race.
bool share_parts(int n) {
  std::vector<int> counts(9);
  const auto count = [](const void* context, std::uint32_t part) {
    ++(*static_cast<std::vector<int>*>(const_cast<void*>(context)))[part];
  };
  for (int i = 1; i <= n; ++i) {
    share({std::uint32_t(counts.size()), count, &counts}, 1 + i % 4);
    for (int c : counts)
      if (c != i) return false;
  }
  return true;
}

// What is left to a thread, in the order in which it does it: its own share, then that of the next one.
bool own_share_comes_first() {
  std::vector<std::uint32_t> order;
  const auto append = [](const void* context, std::uint32_t part) {
    static_cast<std::vector<std::uint32_t>*>(const_cast<void*>(context))->push_back(part);
  };
  Shares shares;
  const auto drained = [&](int threads, std::uint32_t own, bool backwards) {
    order.clear();
    shares.deal({7, append, &order, backwards}, threads);
    shares.drain(own, [](const Work&) {});
    return order;
  };
  using Order = std::vector<std::uint32_t>;
  return drained(3, 1, false) == Order{2, 3, 4, 5, 6, 0, 1} &&
         drained(3, 1, true) == Order{3, 2, 6, 5, 4, 1, 0} &&
         drained(1, 5, true) == Order{6, 5, 4, 3, 2, 1, 0} && drained(1000, 0, false).size() == 7;
}

// A child has none of its parent's threads, and steps all the same. SIGALRM ends one that hangs.
bool child_steps() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(Model().step(50) && share_parts(50) ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool report(const char* phase, bool good) {
  std::printf("%s: %s\n", phase, good ? "ok" : "FAILED");
  std::fflush(stdout);
  return good;
}

// Two callers and one who changes the number of threads meanwhile; `meanwhile` runs beside them.
template <class Meanwhile>
bool together(const Meanwhile& meanwhile) {
  std::atomic<bool> over{false}, good{true};
  const auto call = [&] {
    Model model;
    for (int i = 0; i < 10; ++i)
      if (!model.step(calls / 10) || !share_parts(calls / 10)) good = false;
  };
  std::thread one(call), two(call), changer([&] {
    for (int n = 0; !over; n = (n + 1) % 4) {
      set_num_threads(1 + n);
      std::this_thread::yield();
    }
  });
  if (!meanwhile()) good = false;
  one.join();
  two.join();
  over = true;
  changer.join();
  return good;
}

}  // namespace

int main() {
  grain.part_tiles = 1, grain.thread_elements = 1024;  // so that calls this small have parts to share
  set_num_threads(4);
  Model alone;
  bool good = report("the own share first", own_share_comes_first());
  good &= report("one caller", alone.step(calls) && share_parts(calls));
  good &= report("two callers", together([] { return true; }));
  if (forks) {
    good &= report("forks between calls", child_steps() && child_steps());
    good &= report("forks during calls", together([] {
                     for (int i = 0; i < 20; ++i)
                       if (!child_steps()) return false;
                     return true;
                   }));
  }
  set_num_threads(4);
  good &= report("the same caller, afterwards", alone.step(calls));
  return good ? 0 : 1;
}
