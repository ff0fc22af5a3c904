// The ceiling: what the same reads and writes cost with almost no arithmetic. One static share a thread.
#include <cstdint>
#include <thread>
#include <vector>

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
    a[0][i] = sum;
    if constexpr (written > 1) a[1][i] = sum;
    if constexpr (written > 2) a[2][i] = sum;
  }
}

static void read(float* const* arrays, std::int64_t begin, std::int64_t end) {
  const float* const a = arrays[0];
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < end; ++i) sum += a[i];
  if (sum == 1e30f) arrays[0][begin] = 0;  // so that it is computed
}

using Work = void (*)(float* const*, std::int64_t, std::int64_t);

static void share(Work work, float* const* a, std::int64_t n, int threads, std::int64_t times) {
  auto part = [=](int t) {
    for (std::int64_t k = 0; k < times; ++k) work(a, n * t / threads, n * (t + 1) / threads);
  };
  std::vector<std::thread> team;
  for (int t = 1; t < threads; ++t) team.emplace_back(part, t);
  part(0);
  for (auto& thread : team) thread.join();
}

// Of 2 + states streams, all but the last are written back: parameter, states, and the gradient that is read.
// One stream alone is only read. Each thread sweeps its share so many times: in a cache, its start would count else.
extern "C" void ceiling(float* const* a, int states, std::int64_t n, int threads, std::int64_t times) {
  constexpr Work works[] = {read, sweep<1, 2>, sweep<2, 3>, sweep<3, 4>};
  share(works[states + 1], a, n, threads, times);
}
