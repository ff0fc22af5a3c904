#pragma once
#include "rule.h"

namespace gradstep {

// Nesterov's accelerated gradient in Bengio's form: g is taken where the parameters stand, which is the
// looked-ahead point already.
template <class T>
struct NAG {
  static constexpr const char* name = "nag";
  static constexpr Names<2> hypers = {"lr", "momentum"};
  static constexpr Names<1> states = {"velocity"};
  struct Hyper {
    double lr, momentum;
  };

  T lr, momentum;

  HD NAG(const Hyper& h, std::int64_t) : lr(T(h.lr)), momentum(T(h.momentum)) {}

  HD void operator()(T& p, T g, T& velocity) const {
    velocity = momentum * velocity - lr * g;
    p += momentum * velocity - lr * g;
  }
};

}  // namespace gradstep
