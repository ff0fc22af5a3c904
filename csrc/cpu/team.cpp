#include "team.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace gradstep {
namespace {

std::atomic<Threading> layer{Threading::pool};
std::atomic<int> asked{0};  // 0: nothing was asked for
std::atomic<int> granted{INT_MAX};

// Read anew for each large call, so that a change of affinity counts from the next step on.
int processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

}  // namespace

Threading threading() { return layer; }
void set_threading(Threading wanted) { layer = wanted; }

int num_threads() {
  const int n = asked;
  const int own = n ? n : std::min(processors(), granted.load());
  return layer == Threading::openmp ? std::min(openmp_threads(), own) : own;
}

void set_num_threads(int n) {
  asked = n;
  if (layer == Threading::openmp) set_openmp_threads(n);
}

void set_granted_threads(int n) { granted = n; }

void share(const Work& work, int threads) {
  if (threads < 2 || work.parts < 2) {
    for (std::uint32_t part = 0; part < work.parts; ++part) work.task(work.context, part);
  } else if (layer == Threading::openmp) {
    share_openmp(work, threads);
  } else {
    share_pool(work, threads);
  }
}

}  // namespace gradstep
