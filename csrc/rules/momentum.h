#pragma once
#include "rule.h"

namespace gradstep {

// Momentum (Polyak 1964), with lr inside the velocity.
template <class T>
struct Momentum {
  static constexpr const char* name = "momentum";
  static constexpr Names<2> hypers = {"lr", "momentum"};
  static constexpr Names<1> states = {"velocity"};
  struct Hyper {
    double lr, momentum;
  };

  T lr, momentum;

  HD Momentum(const Hyper& h, std::int64_t) : lr(T(h.lr)), momentum(T(h.momentum)) {}

  HD void operator()(T& p, T g, T& velocity) const {
    velocity = momentum * velocity - lr * g;
    p += velocity;
  }
};

}  // namespace gradstep
