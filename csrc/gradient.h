// What happens to a gradient before any rule sees it, the same for every rule.
#pragma once
#include "backend.h"
#include "rules/rule.h"

namespace gradstep {

template <class T>
struct Gradient {
  bool negated, decayed;
  T weight_decay;

  HD explicit Gradient(const Hyper& h)
      : negated(h.maximize), decayed(h.weight_decay != 0), weight_decay(T(h.weight_decay)) {}

  HD bool plain() const { return !negated && !decayed; }

  HD T operator()(T p, T g) const {
    g = negated ? -g : g;
    return decayed ? g + weight_decay * p : g;
  }
};

}  // namespace gradstep
