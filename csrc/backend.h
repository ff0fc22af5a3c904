// What every backend offers, the same verbs for arrays in main memory (csrc/cpu) and on a GPU (csrc/cuda).
// plan.h and bind.h turn them into a Python module.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layout.h"
#include "storage.h"

namespace gradstep {

inline constexpr int max_states = 4, max_hypers = 8;

// The hyperparameters of a group of arrays, as the user gave them.
struct Hyper {
  double rule[max_hypers] = {};  // in the order of the rule's `hypers`
  double weight_decay = 0;       // coupled: added to the gradient
  bool maximize = false;
  const double* lr = nullptr;  // on a device, in the place of the rule's own, where the user refreshes it
};

// One array of a call: its parameter, its gradient, what is remembered of it. States, master weights and
// averages lie densely, in the parameter's order of axes.
struct Tensor {
  Storage p_storage, g_storage;
  void *p, *g;  // without a gradient only the average moves
  void* s[max_states];
  void* master;   // null, or the parameter in float: then `p` is a rounded copy of it
  void* average;  // null, or the moving average of what `p` holds after each step
  std::int64_t n;
  std::int64_t slot;  // its number in the plan
  std::int64_t step;  // updates of this array, the present one included; for an engine to fill in
  const Hyper* hyper;
  const Layout* layout;            // null where p, g and s are each one run of n elements
  std::int64_t first_tile, tiles;  // counted through all tensors of the call
  std::int64_t first_chunk;        // likewise

  std::int64_t chunks() const { return g ? pieces(n, tile_elements) : 0; }
};

// What a survey finds in a run of `tile_elements` gradients, in the parameter's order.
struct Chunk {
  double sum_sq;
  bool finite;  // every element is
  // Only where they were asked for, or an element is not finite:
  std::int32_t zeros, nans, infs;
  double max_abs;  // NaN if an element is
};

// Norms of a tile of a parameter: of how it has moved, and of what it was before.
struct Change {
  double update, weight;
};

enum class Nonfinite { propagate, skip, raise };

// What the user asks of a step, beside the step.
struct Wishes {
  double clip_norm = -1;  // below 0: no norm is taken
  double clip_value = __builtin_inf(), grad_scale = 1;
  Nonfinite nonfinite = Nonfinite::propagate;
  bool zero_grads = false, health = false;
  double average_decay = 0;

  HD bool surveys() const { return clip_norm >= 0 || nonfinite != Nonfinite::propagate || health; }
};

// What an update does beside its rule.
struct Extras {
  double scale = 1;  // gradients are multiplied by it first
  double clip_value = __builtin_inf();
  double average_decay = 0;
  bool zero_grads = false;
  bool skip = false;          // nothing but the zeroing
  Change* changes = nullptr;  // one for each tile, where they are wanted
};

// What the last step with `health` found of one array's gradient, after division by `grad_scale`; and the
// norms of the update and of the parameter before.
struct ArrayHealth {
  std::int64_t slot;
  double norm = 0, max_abs = 0;
  std::int64_t zeros = 0, nans = 0, infs = 0;
  double update = 0, weight = 0;
};

struct Health {
  bool applied = false;
  std::vector<ArrayHealth> arrays;  // that had a gradient
};

struct Tally {
  std::int64_t steps = 0, skipped = 0;
  std::optional<double> grad_norm;
};

enum class Outcome { applied, skipped, failed };

// Whole steps of the arrays of a plan, and what is remembered of them beside arrays: it lies where they do,
// so that no step waits for a device. Whoever asks waits.
class Engine {
 public:
  // `capacity`: of each array, the elements.
  explicit Engine(std::vector<std::int64_t> capacity, int device);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // One step of `rule`, on a stream of the backend's. Throws nothing. A device answers "applied" before it
  // knows, unless the wish is to raise.
  Outcome step(int rule, std::span<Tensor> tensors, const Wishes& wishes, void* stream) noexcept;

  Tally tally() const;
  std::vector<std::int64_t> counts() const;  // updates of each array
  void set_counts(std::int64_t steps, std::int64_t skipped, const std::vector<std::int64_t>& counts);
  Health health() const;

  // After a step that met a number that is not finite: whose gradient holds it, and whether it is NaN.
  std::pair<std::int64_t, bool> culprit() const;
  std::string failure() const;  // of a step that failed

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

struct RuleInfo {
  const char* name;
  std::span<const char* const> hypers, states;
};

// The rules, in the order in which `step` counts them.
std::span<const RuleInfo> rules();

}  // namespace gradstep
