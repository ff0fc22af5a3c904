// The ceilings: what the same reads and writes cost with almost no arithmetic. One static share a thread.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>
#ifdef __linux__
#include <pthread.h>
#endif

template <int written, int streams>
static void sweep(float* const* arrays, std::int64_t begin, std::int64_t end) {
  float* a[streams];
  for (int k = 0; k < streams; ++k) a[k] = arrays[k];
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    float sum = a[0][i];
    if constexpr (streams > 1) sum += a[1][i];
    if constexpr (streams > 2) sum += a[2][i];
    if constexpr (streams > 3) sum += a[3][i];
    if constexpr (streams > 4) sum += a[4][i];
    a[0][i] = sum;
    if constexpr (written > 1) a[1][i] = sum;
    if constexpr (written > 2) a[2][i] = sum;
    if constexpr (written > 3) a[3][i] = sum;
    if constexpr (written > 4) a[4][i] = sum;
  }
}

constexpr std::int64_t line = 64 / sizeof(float);

// As four streams, far from each other: so memory is read faster than as one.
static void read(float* const* arrays, std::int64_t begin, std::int64_t end) {
  const float* const a = arrays[0];
  const std::int64_t apart = (end - begin) / 4 / line * line;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < begin + apart; ++i)
    sum += a[i] + a[i + apart] + a[i + 2 * apart] + a[i + 3 * apart];
  for (std::int64_t i = begin + 4 * apart; i < end; ++i) sum += a[i];
  if (sum == 1e30f) arrays[0][begin] = 0;  // so that it is computed
}

using Work = void (*)(float* const*, std::int64_t, std::int64_t);

using Clock = std::chrono::steady_clock;

static void stay_on([[maybe_unused]] int processor) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#endif
}

// Those that the caller may run on, in order; none where that is not known.
static std::vector<int> processors() {
  std::vector<int> own;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int k = 0; k < CPU_SETSIZE; ++k)
      if (CPU_ISSET(k, &set)) own.push_back(k);
#endif
  return own;
}

// One share of each `multiple` elements a thread, on a processor of its own. Returns the seconds from when
// all have made ready until the last is done: neither the start of threads counts, nor where a scheduler
// wakes them.
template <class Ready, class Do>
static double share(std::int64_t n, std::int64_t multiple, int threads, const Ready& ready, const Do& work) {
  const auto cut = [&](int t) { return t == threads ? n : n * t / threads / multiple * multiple; };
  const std::vector<int> own = processors();
  std::vector<Clock::time_point> begins(threads), ends(threads);
  std::atomic<int> there{0};
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t)
    team.emplace_back([&, t] {
      if (!own.empty()) stay_on(own[std::size_t(t) % own.size()]);
      ready(t, cut(t), cut(t + 1));
      for (++there; there < threads;) std::this_thread::yield();
      begins[t] = Clock::now();
      work(t, cut(t), cut(t + 1));
      ends[t] = Clock::now();
    });
  for (auto& thread : team) thread.join();
  const std::chrono::duration<double> took =
      *std::max_element(ends.begin(), ends.end()) - *std::min_element(begins.begin(), begins.end());
  return took.count();
}

// Of the streams of a step (parameter, states, an average, the gradient) the last is written back only if
// gradients are zeroed; one stream alone is only read. Each thread sweeps its share once, so that caches have
// what they can keep, and then so many times; returns the seconds of one of these.
extern "C" double ceiling(float* const* a, int streams, bool zeroing, std::int64_t n, int threads,
                          std::int64_t times) {
  constexpr Work works[][2] = {{read, read},
                               {sweep<1, 2>, sweep<2, 2>},
                               {sweep<2, 3>, sweep<3, 3>},
                               {sweep<3, 4>, sweep<4, 4>},
                               {sweep<4, 5>, sweep<5, 5>}};
  const Work work = works[streams - 1][zeroing];
  const auto sweeps = [&](int, std::int64_t begin, std::int64_t end) { work(a, begin, end); };
  return share(n, line, threads, sweeps,
               [&](int t, std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = 0; k < times; ++k) sweeps(t, begin, end);
               }) /
         double(times);
}

// Two passes over rows, as methods of second order make them: dot products with a vector, then a sum. Several
// rows at once, so that the vector and the sum are read seldom; in tiles, of which those two stay in the L1
// cache; ahead of the processor's own prefetching, which begins anew with each tile.
constexpr std::int64_t tile_bytes = 16384, ahead_bytes = 1024;

template <class T>
using Line __attribute__((vector_size(64))) = T;

template <class T>
struct Passes {
  static constexpr std::int64_t line = 64 / sizeof(T), tile = tile_bytes / sizeof(T);
  const T* const* rows;
  int count;
  const T* vector;
  T* sum;
  double* dots;

  static Line<T> load(const T* at) { return *reinterpret_cast<const Line<T>*>(at); }
  static Line<T> fetch(const T* at) {
    __builtin_prefetch(at + ahead_bytes / sizeof(T));
    return load(at);
  }

  template <int R>
  void multiply(int first, std::int64_t begin, std::int64_t end, double* to) const {
    Line<T> found[R] = {};
    for (std::int64_t i = begin; i < end; i += line) {
      const Line<T> v = load(vector + i);
      for (int r = 0; r < R; ++r) found[r] += v * fetch(rows[first + r] + i);
    }
    for (int r = 0; r < R; ++r)
      for (std::int64_t k = 0; k < line; ++k) to[first + r] += found[r][k];
  }

  template <int R>
  void add(int first, std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; i += line) {
      Line<T> total = first ? load(sum + i) : Line<T>{};
      for (int r = 0; r < R; ++r) total += fetch(rows[first + r] + i);
      *reinterpret_cast<Line<T>*>(sum + i) = total;
    }
  }

  // All rows of each tile, R at once.
  template <int R, class Do>
  void walk(std::int64_t begin, std::int64_t end, const Do& work) const {
    for (std::int64_t at = begin; at < end; at += tile)
      for (int r = 0; r + R <= count; r += R) work(r, at, std::min(at + tile, end));
  }

  template <int R>
  double run(std::int64_t n, int threads) const {
    std::vector<double> partial(std::size_t(threads * count));
    const auto nothing = [](int, std::int64_t, std::int64_t) {};
    const double took = share(n, tile, threads, nothing, [&](int t, std::int64_t begin, std::int64_t end) {
      double* const to = &partial[std::size_t(t * count)];
      walk<R>(begin, end, [&](int r, std::int64_t a, std::int64_t b) { multiply<R>(r, a, b, to); });
      walk<R>(begin, end, [&](int r, std::int64_t a, std::int64_t b) { add<R>(r, a, b); });
    });
    for (int r = 0; r < count; ++r) {
      dots[r] = 0;
      for (int t = 0; t < threads; ++t) dots[r] += partial[std::size_t(t * count + r)];
    }
    return took;
  }

  double run(int at_once, std::int64_t n, int threads) const {
    return at_once == 4 ? run<4>(n, threads) : at_once == 5 ? run<5>(n, threads) : run<10>(n, threads);
  }
};

// All begin on cache lines, and end there: `n` elements of so many bytes; 4, 5 or 10 rows at once. Returns
// seconds.
extern "C" double two_passes(const void* const* rows, int count, const void* vector, void* sum, double* dots,
                             std::int64_t n, int bytes, int at_once, int threads) {
  const auto run = [&]<class T>(T*) {
    return Passes<T>{reinterpret_cast<const T* const*>(rows), count, static_cast<const T*>(vector),
                     static_cast<T*>(sum), dots}
        .run(at_once, n, threads);
  };
  return bytes == 8 ? run(static_cast<double*>(nullptr)) : run(static_cast<float*>(nullptr));
}

// Nanoseconds that a cache line takes from one processor to another, in the fastest of some batches: others'
// threads spin on the same processors.
extern "C" double core_to_core(int first, int second) {
  constexpr int batches = 20, turns = 200;
  alignas(64) std::atomic<int> ball{0};
  std::thread other([&] {
    stay_on(second);
    for (int k = 1; k < 2 * batches * turns; k += 2) {
      while (ball.load(std::memory_order_acquire) != k) {
      }
      ball.store(k + 1, std::memory_order_release);
    }
  });
  double least = 1e9;
  std::thread([&] {
    stay_on(first);
    for (int batch = 0; batch < batches; ++batch) {
      const auto begin = Clock::now();
      for (int k = 2 * batch * turns; k < 2 * (batch + 1) * turns; k += 2) {
        ball.store(k + 1, std::memory_order_release);
        while (ball.load(std::memory_order_acquire) != k + 2) {
        }
      }
      const std::chrono::duration<double, std::nano> took = Clock::now() - begin;
      least = std::min(least, took.count() / (2 * turns));
    }
  }).join();
  other.join();
  return least;
}

// As much arithmetic as a core has room for: more chains of products than are needed to hide their latency.
static double multiply_chains() {
  constexpr int chains = 8, turns = 2000;
  Line<float> x[chains];
  for (int k = 0; k < chains; ++k) x[k] = Line<float>{} + float(k + 1);
  const auto begin = Clock::now();
  for (int turn = 0; turn < turns; ++turn)
    for (auto& chain : x) chain *= 0.999f;
  for (const auto& chain : x) asm volatile("" ::"m"(chain));
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// How many times as long two processors take for that side by side as one alone: twice, where both are
// threads of one core. Of the fastest of some batches, as above.
extern "C" double side_by_side(int first, int second) {
  constexpr int batches = 20;
  double took[2][batches], alone = 1e9, both = 1e9;
  std::atomic<int> there{0};
  const auto run = [&](int own, int processor) {
    stay_on(processor);
    for (int batch = 0; batch < batches; ++batch) {
      for (++there; there < 2 * (batch + 1);) {
      }
      took[own][batch] = multiply_chains();
    }
  };
  std::thread other(run, 1, second);
  std::thread([&] {
    run(0, first);
    other.join();
    for (int batch = 0; batch < batches; ++batch) alone = std::min(alone, multiply_chains());
  }).join();
  for (int batch = 0; batch < batches; ++batch)
    both = std::min(both, std::max(took[0][batch], took[1][batch]));
  return both / alone;
}
