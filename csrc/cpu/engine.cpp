// Whole steps on the CPU: the survey of the gradients, what it decides, the update.
#include <algorithm>
#include <cmath>

#include "../norm.h"
#include "cpu.h"
#include "runs.h"

namespace gradstep {

struct Engine::Memory {
  Tally tally;
  std::vector<std::int64_t> counts;
  std::span<const Tensor> tensors;  // of the present step
  std::vector<Chunk> survey, rescaled;
  std::vector<double> terms;
  std::vector<Change> changes;
  Health health;

  bool step(int rule, const Wishes& wishes);
  Norm norm_of(std::span<const Tensor> tensors);
  double sum_sq(std::span<const Chunk> chunks);
  void examine_gradients(const Wishes& wishes, bool applied);
  void examine_changes();
};

Engine::Engine(std::vector<std::int64_t> capacity, int) : memory_(std::make_unique<Memory>()) {
  memory_->counts.resize(capacity.size());
}
Engine::~Engine() = default;

Outcome Engine::step(int rule, std::span<Tensor> tensors, const Wishes& wishes, void*) noexcept {
  const FloatingPointDefaults defaults;  // for what is decided between the passes, too
  Memory& m = *memory_;
  for (Tensor& t : tensors) t.step = m.counts[t.slot] + 1;
  m.tensors = tensors;
  const bool applied = m.step(rule, wishes);
  for (const Tensor& t : tensors) m.counts[t.slot] += applied && t.g;
  m.tally.steps += applied;
  m.tally.skipped += !applied && wishes.nonfinite == Nonfinite::skip;
  return applied ? Outcome::applied : Outcome::skipped;
}

Tally Engine::tally() const { return memory_->tally; }
std::vector<std::int64_t> Engine::counts() const { return memory_->counts; }
Health Engine::health() const { return memory_->health; }
std::string Engine::failure() const { return {}; }

void Engine::set_counts(std::int64_t steps, std::int64_t skipped, const std::vector<std::int64_t>& counts) {
  memory_->tally.steps = steps, memory_->tally.skipped = skipped;
  memory_->counts = counts;
}

std::pair<std::int64_t, bool> Engine::culprit() const {
  const auto bad = std::ranges::find(memory_->survey, false, &Chunk::finite);
  const auto owner =
      std::ranges::upper_bound(memory_->tensors, bad - memory_->survey.begin(), {}, &Tensor::first_chunk) - 1;
  return {owner->slot, bad->nans > 0};
}

bool Engine::Memory::step(int rule, const Wishes& wishes) {
  Extras extras{1 / wishes.grad_scale, wishes.clip_value, wishes.average_decay, wishes.zero_grads};
  if (!wishes.surveys()) {
    update(rule, tensors, extras);
    return true;
  }
  const std::int64_t chunks = tensors.empty() ? 0 : tensors.back().first_chunk + tensors.back().chunks();
  survey.resize(chunks);
  gradstep::survey(tensors, 1, wishes.health, survey.data());
  const bool finite = std::ranges::all_of(survey, &Chunk::finite);
  const Norm norm = norm_of(tensors);
  const bool applied = finite || wishes.nonfinite == Nonfinite::propagate;
  tally.grad_norm = norm.over(wishes.grad_scale);
  if (!applied && wishes.nonfinite == Nonfinite::raise) return false;
  if (wishes.health) examine_gradients(wishes, applied);  // before they may be set to zero
  extras.scale = norm.factor(wishes);
  extras.skip = !applied;
  changes.resize(wishes.health && !tensors.empty() ? tensors.back().first_tile + tensors.back().tiles : 0);
  if (wishes.health) extras.changes = changes.data();
  if (applied || wishes.zero_grads) update(rule, tensors, extras);
  if (wishes.health && applied) examine_changes();
  return applied;
}

// The norm of neighbouring tensors.
Norm Engine::Memory::norm_of(std::span<const Tensor> tensors) {
  if (tensors.empty()) return {0, 1};
  const std::int64_t first = tensors.front().first_chunk;
  const auto chunks =
      std::span(survey).subspan(first, tensors.back().first_chunk + tensors.back().chunks() - first);
  Norm norm{sum_sq(chunks), 1};
  const bool doubles = std::ranges::any_of(tensors, [](const Tensor& t) { return is_double(t.g_storage); });
  if (doubles && unit_for(norm.root) != 1 && std::ranges::all_of(chunks, &Chunk::finite)) {
    norm.unit = unit_for(norm.root);
    rescaled.resize(chunks.size());
    std::vector<Tensor> own(tensors.begin(), tensors.end());  // a survey counts its chunks from 0
    for (Tensor& t : own) t.first_chunk -= first;
    gradstep::survey(own, 1 / norm.unit, false, rescaled.data());
    norm.root = sum_sq(rescaled);
  }
  norm.root = std::sqrt(norm.root);
  return norm;
}

double Engine::Memory::sum_sq(std::span<const Chunk> chunks) {
  terms.resize(chunks.size());
  std::ranges::transform(chunks, terms.begin(), &Chunk::sum_sq);
  return sum(terms);
}

void Engine::Memory::examine_gradients(const Wishes& wishes, bool applied) {
  health = {applied, {}};
  for (const Tensor& t : tensors) {
    if (!t.g) continue;
    ArrayHealth a{.slot = t.slot, .norm = norm_of({&t, 1}).over(wishes.grad_scale)};
    for (const Chunk& chunk : std::span(survey).subspan(t.first_chunk, t.chunks())) {
      a.max_abs = greater(a.max_abs, chunk.max_abs);
      a.zeros += chunk.zeros, a.nans += chunk.nans, a.infs += chunk.infs;
    }
    a.max_abs /= wishes.grad_scale;
    health.arrays.push_back(a);
  }
}

void Engine::Memory::examine_changes() {
  auto row = health.arrays.begin();
  for (const Tensor& t : tensors) {
    if (!t.g) continue;
    const Change* const moved = changes.data() + t.first_tile;
    row->update = norm_of_norms(moved, t.tiles, &Change::update);
    row->weight = norm_of_norms(moved, t.tiles, &Change::weight);
    ++row;
  }
}

}  // namespace gradstep
