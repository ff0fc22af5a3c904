// What every backend offers. csrc/cpu defines these verbs for arrays in main memory; bind.h turns them into a
// Python module.
#pragma once
#include <cstdint>
#include <span>
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
};

// One array of a call: its parameter, its gradient, what the rule remembers of it.
struct Tensor {
  Format format;
  void* p;
  const void* g;
  void* s[max_states];
  std::int64_t n;
  std::int64_t step;  // updates of this array, the present one included
  const Hyper* hyper;
  const Layout* layout;            // null where p, g and s are each one run of n elements
  std::int64_t first_tile, tiles;  // counted through all tensors of the call
};

struct RuleInfo {
  const char* name;
  std::span<const char* const> hypers, states;
};

// The rules, in the order in which `update` counts them.
std::span<const RuleInfo> rules();

// One step of `rule` for all tensors.
void update(int rule, std::span<const Tensor> tensors);

}  // namespace gradstep
