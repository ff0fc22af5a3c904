// What happens to a gradient before any rule sees it, the same for every rule.
#pragma once
#include "backend.h"
#include "rules/rule.h"

namespace gradstep {

template <class T>
struct Gradient {
  T scale;  // with the sign
  T limit;
  bool decayed;
  T weight_decay;

  HD Gradient(const Hyper& h, const Extras& extras)
      : scale(T(h.maximize ? -extras.scale : extras.scale)),
        limit(T(extras.clip_value)),
        decayed(h.weight_decay != 0),
        weight_decay(T(h.weight_decay)) {}

  HD T operator()(T p, T g) const {
    g *= scale;
    g = g > limit ? limit : g;
    g = g < -limit ? -limit : g;
    return decayed ? g + weight_decay * p : g;
  }
};

// A rule behind what happens to its gradient.
template <class Rule, class T>
struct Prepared {
  Rule rule;
  Gradient<T> gradient;

  template <class... S>
  HD void operator()(T& p, T g, S&... s) const {
    rule(p, gradient(p, g), s...);
  }
};

}  // namespace gradstep
