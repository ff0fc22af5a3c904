// For those who want one OpenMP runtime in charge of all threads (GRADSTEP_THREADING=openmp).
#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

#include "shares.h"

namespace gradstep {
namespace {

// libgomp waits for ever in a forked child whose parent has run a parallel region.
std::atomic<bool> forked{false};
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

void share_openmp(const Work& work, int threads) {
  Shares shares;
  shares.deal(work, threads);
#pragma omp parallel num_threads(threads)
  shares.drain(std::uint32_t(omp_get_thread_num()), [](const Work&) {});
}

int openmp_threads() { return forked ? 1 : std::min(omp_get_max_threads(), omp_get_thread_limit()); }
void set_openmp_threads(int n) { omp_set_num_threads(n); }

}  // namespace gradstep
