#include "cpu.h"

#include <algorithm>
#include <atomic>
#include <cfenv>

#include "../lanes.h"
#include "team.h"

namespace gradstep {

#if defined(__x86_64__)
extern const InstructionSet instruction_set_avx512, instruction_set_avx2;
#endif
extern const InstructionSet instruction_set_baseline;

namespace {

constexpr const InstructionSet* built[] = {
#if defined(__x86_64__)
    &instruction_set_avx512,
    &instruction_set_avx2,
#endif
    &instruction_set_baseline,
};

// Memory is read faster in long runs, but a thread that lost its processor holds the others up by one.
constexpr std::int64_t parts_of_a_thread = 16;

std::atomic<const InstructionSet*> chosen{&instruction_set_baseline};
std::atomic<std::int64_t> part_tiles{32}, thread_elements{1 << 16};

// Another library may have set this thread to flush denormals to zero, or to round otherwise. A step gives
// the same bits all the same.
class FloatingPointDefaults {
 public:
  FloatingPointDefaults() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatingPointDefaults() { std::fesetenv(&before_); }
  FloatingPointDefaults(const FloatingPointDefaults&) = delete;
  FloatingPointDefaults& operator=(const FloatingPointDefaults&) = delete;

 private:
  std::fenv_t before_;
};

// Shares [0, count) out as runs: `task(first, last)` is called for each, on some thread.
template <class Task>
void share_runs(std::int64_t elements, std::int64_t count, const Task& task) {
  if (count == 0) return;
  const std::int64_t worth = elements / thread_elements;  // threads that have enough to do
  const int threads = worth < 2 ? 1 : int(std::min<std::int64_t>(worth, num_threads()));
  const std::int64_t share_of_a_thread = count / threads;
  const std::int64_t length =
      threads < 2 ? count : std::max(part_tiles.load(), share_of_a_thread / parts_of_a_thread);
  const std::int64_t runs = (count + length - 1) / length;
  const auto run = [&](std::uint32_t part) {
    const FloatingPointDefaults defaults;
    const std::int64_t first = part * length;
    task(first, std::min(first + length, count));
  };
  share({std::uint32_t(runs),
         [](const void* c, std::uint32_t part) { (*static_cast<decltype(run)*>(c))(part); }, &run},
        threads);
}

std::int64_t elements_of(std::span<const Tensor> tensors) {
  std::int64_t elements = 0;
  for (const Tensor& t : tensors) elements += t.n;
  return elements;
}

// The tensor that tile or chunk number `at` belongs to.
const Tensor* tensor_at(std::span<const Tensor> tensors, std::int64_t at, std::int64_t Tensor::* first) {
  return &*(std::ranges::upper_bound(tensors, at, {}, first) - 1);
}

}  // namespace

std::span<const InstructionSet* const> instruction_sets() { return built; }

bool supported(const InstructionSet& isa) {
#if defined(__x86_64__)
  if (&isa == &instruction_set_avx512) return __builtin_cpu_supports("x86-64-v4");
  if (&isa == &instruction_set_avx2) return __builtin_cpu_supports("x86-64-v3");
#endif
  return &isa == &instruction_set_baseline;
}

const InstructionSet& instruction_set() { return *chosen; }
void set_instruction_set(const InstructionSet& isa) { chosen = &isa; }

void set_grain(std::int64_t tiles, std::int64_t elements) { part_tiles = tiles, thread_elements = elements; }

void update(int rule, std::span<const Tensor> tensors, const Extras& extras) {
  if (tensors.empty()) return;
  const Sweep* const sweeps = chosen.load()->sweeps[rule];
  const std::int64_t tiles = tensors.back().first_tile + tensors.back().tiles;
  share_runs(elements_of(tensors), tiles, [&](std::int64_t at, std::int64_t end) {
    const Tensor* t = tensor_at(tensors, at, &Tensor::first_tile);
    while (at < end) t = sweeps[is_double(t->p_storage)](t, at, end, extras);
  });
}

void survey(std::span<const Tensor> tensors, double scale, bool counted, Chunk* chunks) {
  if (tensors.empty()) return;
  const Survey* const surveys = chosen.load()->surveys;
  const std::int64_t count = tensors.back().first_chunk + tensors.back().chunks();
  share_runs(elements_of(tensors), count, [&](std::int64_t at, std::int64_t end) {
    for (const Tensor* t = tensor_at(tensors, at, &Tensor::first_chunk); at < end; ++t) {
      const std::int64_t last = std::min(end, t->first_chunk + t->chunks());
      surveys[is_double(t->g_storage)](*t, at - t->first_chunk, last - t->first_chunk, scale, counted,
                                       chunks + t->first_chunk);
      at = last;
    }
  });
}

double sum(std::span<double> terms) {
  while (terms.size() > 1) {
    std::size_t runs = 0;
    for (std::size_t at = 0; at < terms.size(); at += tile_elements) {
      const auto run = terms.subspan(at, std::min<std::size_t>(tile_elements, terms.size() - at));
      terms[runs++] = lane_sum(std::int64_t(run.size()), [=](std::int64_t i) { return run[i]; });
    }
    terms = terms.first(runs);
  }
  return terms.empty() ? 0 : terms[0];
}

}  // namespace gradstep
