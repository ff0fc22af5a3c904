#include "cpu.h"

#include <algorithm>
#include <atomic>
#include <cfenv>

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

// Tiles are counted through all tensors of a call; a part is a run of them.
struct Call {
  const Sweep* sweeps;  // of the call's rule, one for each format
  std::span<const Tensor> tensors;
  std::int64_t part_tiles, tiles;

  void operator()(std::uint32_t part) const {
    const FloatingPointDefaults defaults;
    std::int64_t at = part * part_tiles;
    const std::int64_t end = std::min(at + part_tiles, tiles);
    const Tensor* t = &*(std::ranges::upper_bound(tensors, at, {}, &Tensor::first_tile) - 1);
    while (at < end) t = sweeps[int(t->format)](t, at, end);
  }
};

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

void update(int rule, std::span<const Tensor> tensors) {
  if (tensors.empty()) return;
  std::int64_t elements = 0;
  for (const Tensor& t : tensors) elements += t.n;
  const std::int64_t worth = elements / thread_elements;  // threads that have enough to do
  const std::int64_t tiles = tensors.back().first_tile + tensors.back().tiles;
  const int threads = worth < 2 ? 1 : int(std::min<std::int64_t>(worth, num_threads()));
  const Call call{chosen.load()->sweeps[rule], tensors, threads < 2 ? tiles : part_tiles.load(), tiles};
  share({std::uint32_t((tiles + call.part_tiles - 1) / call.part_tiles),
         [](const void* c, std::uint32_t part) { (*static_cast<const Call*>(c))(part); }, &call},
        threads);
}

}  // namespace gradstep
