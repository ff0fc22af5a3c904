#pragma once
#include "rule.h"

namespace gradstep {

// Adam (Kingma & Ba 2015). The square stays a product of its own: v += (1 - beta2) * (g * g - v) would turn
// one huge gradient into NaN for ever (inf - inf).
template <class T>
struct Adam {
  static constexpr const char* name = "adam";
  static constexpr Names<4> hypers = {"lr", "beta1", "beta2", "eps"};
  static constexpr Names<2> states = {"exp_avg", "exp_avg_sq"};
  struct Hyper {
    double lr, beta1, beta2, eps;
  };

  T lr, beta1, rest1, beta2, rest2, eps;
  T fix1, fix2;  // bias corrections, 1 / (1 - beta^step)

  HD Adam(const Hyper& h, std::int64_t step)
      : lr(T(h.lr)),
        beta1(T(h.beta1)),
        rest1(T(1 - h.beta1)),
        beta2(T(h.beta2)),
        rest2(T(1 - h.beta2)),
        eps(T(h.eps)),
        fix1(T(1 / (1 - power(h.beta1, step)))),
        fix2(T(1 / (1 - power(h.beta2, step)))) {}

  HD void operator()(T& p, T g, T& exp_avg, T& exp_avg_sq) const {
    exp_avg = beta1 * exp_avg + rest1 * g;
    exp_avg_sq = beta2 * exp_avg_sq + rest2 * (g * g);
    p -= lr * (fix1 * exp_avg / (root(fix2 * exp_avg_sq) + eps));
  }
};

}  // namespace gradstep
