#pragma once
#include "rule.h"

namespace gradstep {

// Gradient descent, and SGD without momentum: the rule is the same, only the gradient's sample differs.
template <class T>
struct GradientDescent {
  static constexpr const char* name = "gradient_descent";
  static constexpr Names<1> hypers = {"lr"};
  static constexpr Names<0> states = {};
  struct Hyper {
    double lr;
  };

  T lr;

  HD GradientDescent(const Hyper& h, std::int64_t) : lr(T(h.lr)) {}

  HD void operator()(T& p, T g) const { p -= lr * g; }
};

}  // namespace gradstep
