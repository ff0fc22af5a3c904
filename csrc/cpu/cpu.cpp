#include "cpu.h"

#include <algorithm>
#include <atomic>

#include "../lanes.h"
#include "runs.h"

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

void update(int rule, std::span<const Tensor> tensors, const Extras& extras) {
  if (tensors.empty()) return;
  const Sweep* const sweeps = chosen.load()->sweeps[rule];
  const std::int64_t tiles = tensors.back().first_tile + tensors.back().tiles;
  const auto update_run = [&](std::int64_t at, std::int64_t end) {
    const Tensor* t = tensor_at(tensors, at, &Tensor::first_tile);
    while (at < end) t = sweeps[is_double(t->p_storage)](t, at, end, extras);
  };
  share_runs(elements_of(tensors), tiles, 1, update_run, true);
}

void survey(std::span<const Tensor> tensors, double scale, bool counted, Chunk* chunks) {
  if (tensors.empty()) return;
  const Survey* const surveys = chosen.load()->surveys;
  const std::int64_t count = tensors.back().first_chunk + tensors.back().chunks();
  share_runs(elements_of(tensors), count, 1, [&](std::int64_t at, std::int64_t end) {
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
