#pragma once
#include "adam.h"

namespace gradstep {

// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
template <class T>
struct AdamW {
  static constexpr const char* name = "adamw";
  static constexpr Names<5> hypers = {"lr", "beta1", "beta2", "eps", "weight_decay"};
  static constexpr Names<2> states = Adam<T>::states;
  struct Hyper {
    double lr, beta1, beta2, eps, weight_decay;
  };

  Adam<T> adam;
  T decay;

  HD AdamW(const Hyper& h, std::int64_t step)
      : adam({h.lr, h.beta1, h.beta2, h.eps}, step), decay(T(1 - h.lr * h.weight_decay)) {}

  HD void operator()(T& p, T g, T& exp_avg, T& exp_avg_sq) const {
    p *= decay;
    adam(p, g, exp_avg, exp_avg_sq);
  }
};

}  // namespace gradstep
