// What every backend offers. csrc/cpu defines these verbs for arrays in main memory; bind.h turns them into a
// Python module.
#pragma once
#include <cstdint>
#include <span>

#include "layout.h"
#include "storage.h"

namespace gradstep {

inline constexpr int max_states = 4, max_hypers = 8;

// The hyperparameters of a group of arrays, as the user gave them.
struct Hyper {
  double rule[max_hypers] = {};  // in the order of the rule's `hypers`
  double weight_decay = 0;       // coupled: added to the gradient
  bool maximize = false;
};

// One array of a call: its parameter, its gradient, what is remembered of it. States, master weights and
// averages lie densely, in the parameter's order of axes.
struct Tensor {
  Storage p_storage, g_storage;
  void *p, *g;
  void* s[max_states];
  void* master;   // null, or the parameter in float: then `p` is a rounded copy of it
  void* average;  // null, or the moving average of what `p` holds after each step
  std::int64_t n;
  std::int64_t step;  // updates of this array, the present one included
  const Hyper* hyper;
  const Layout* layout;            // null where p, g and s are each one run of n elements
  std::int64_t first_tile, tiles;  // counted through all tensors of the call
  std::int64_t first_chunk;        // likewise

  std::int64_t chunks() const { return (n + tile_elements - 1) / tile_elements; }
};

// What a survey finds in a run of `tile_elements` gradients, in the parameter's order.
struct Chunk {
  double sum_sq;
  bool finite;  // every element is
  // Only where they were asked for, or an element is not finite:
  std::int32_t zeros, nans, infs;
  double max_abs;  // NaN if an element is
};

// How far a tile of a parameter has moved, and how large it was before.
struct Change {
  double update_sq, p_sq;
};

// What an update does beside its rule.
struct Extras {
  double scale = 1;  // gradients are multiplied by it first
  double clip_value = __builtin_inf();
  double average_decay = 0;
  bool zero_grads = false;
  Change* changes = nullptr;  // one for each tile, where they are wanted
};

struct RuleInfo {
  const char* name;
  std::span<const char* const> hypers, states;
};

// The rules, in the order in which `update` counts them.
std::span<const RuleInfo> rules();

// One step of `rule` for all tensors.
void update(int rule, std::span<const Tensor> tensors, const Extras& extras);

// Reads all gradients; squares are taken of each times `scale`.
void survey(std::span<const Tensor> tensors, double scale, bool counted, Chunk* chunks);

// Sums runs as long as a tile, then their sums likewise, until one is left: the same order everywhere. What
// is in `terms` is lost.
double sum(std::span<double> terms);

}  // namespace gradstep
