// The threads that share the work of a call, and how many there may be.
#pragma once
#include <cstdint>

namespace gradstep {

// `task(context, part)` for each part in [0, parts), on any thread; each begins with its own share of them,
// at its first part or at its last.
struct Work {
  std::uint32_t parts;
  void (*task)(const void* context, std::uint32_t part);
  const void* context;
  bool backwards = false;
};

enum class Threading { pool, openmp };

// Does the work on the calling thread and on up to `threads - 1` others; returns when all of it is done.
void share(const Work& work, int threads);

Threading threading();
void set_threading(Threading layer);

// How many threads a large call would use now: what was asked for, or else what this machine grants.
int num_threads();
void set_num_threads(int n);      // asked for, by the user or OMP_NUM_THREADS
void set_granted_threads(int n);  // the limit of the control group

// The two layers. Each does the work and returns.
void share_pool(const Work& work, int threads);
void share_openmp(const Work& work, int threads);
int openmp_threads();
void set_openmp_threads(int n);

}  // namespace gradstep
