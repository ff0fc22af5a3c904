// One instruction set's compiled loops.
#pragma once
#include "../backend.h"

namespace gradstep {

// Updates tiles from `at` up to `end`, counted through all tensors of the call, of which `t` holds the first:
// as far as tensors are of the sweep's format. Moves `at`, and returns the tensor that it is then in.
using Sweep = const Tensor* (*)(const Tensor* t, std::int64_t& at, std::int64_t end);

struct InstructionSet {
  const char* name;
  const Sweep (*sweeps)[formats];  // a row for each rule, in the order of `rules()`
};

}  // namespace gradstep
