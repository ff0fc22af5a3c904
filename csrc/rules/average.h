#pragma once
#include "rule.h"

namespace gradstep {

// An exponential moving average: the "parameter" is the average, its "gradient" what is averaged.
template <class T>
struct Average {
  static constexpr const char* name = "average";
  static constexpr Names<1> hypers = {"decay"};
  static constexpr Names<0> states = {};
  struct Hyper {
    double decay;
  };

  T decay, rest;

  HD Average(const Hyper& h, std::int64_t) : decay(T(h.decay)), rest(T(1 - h.decay)) {}

  HD void operator()(T& p, T g) const { p = decay * p + rest * g; }
};

}  // namespace gradstep
