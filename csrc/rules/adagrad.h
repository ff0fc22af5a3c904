#pragma once
#include "rule.h"

namespace gradstep {

// Adagrad (Duchi, Hazan & Singer 2011), eps outside the root.
template <class T>
struct Adagrad {
  static constexpr const char* name = "adagrad";
  static constexpr Names<2> hypers = {"lr", "eps"};
  static constexpr Names<1> states = {"sum_sq"};
  struct Hyper {
    double lr, eps;
  };

  T lr, eps;

  HD Adagrad(const Hyper& h, std::int64_t) : lr(T(h.lr)), eps(T(h.eps)) {}

  HD void operator()(T& p, T g, T& sum_sq) const {
    sum_sq += g * g;
    p -= lr * g / (root(sum_sq) + eps);
  }
};

}  // namespace gradstep
