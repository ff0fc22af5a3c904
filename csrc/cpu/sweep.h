// One instruction set's compiled loops.
#pragma once
#include "../backend.h"

namespace gradstep {

// Updates tiles [first, last) of a tensor.
using Sweep = void (*)(const Tensor&, std::int64_t first, std::int64_t last);

struct InstructionSet {
  const char* name;
  const Sweep (*sweeps)[formats];  // a row for each rule, in the order of `rules()`
};

}  // namespace gradstep
