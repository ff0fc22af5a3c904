#pragma once
#include "rule.h"

namespace gradstep {

// SGD with PyTorch's momentum: lr stands outside the buffer, and the first gradient enters it undamped.
template <class T>
struct SGD {
  static constexpr const char* name = "sgd";
  static constexpr Names<4> hypers = {"lr", "momentum", "dampening", "nesterov"};
  static constexpr Names<1> states = {"momentum_buffer"};
  struct Hyper {
    double lr, momentum, dampening, nesterov;
  };

  T lr, momentum, undamped;
  bool nesterov;

  HD SGD(const Hyper& h, std::int64_t step)
      : lr(T(h.lr)),
        momentum(T(h.momentum)),
        undamped(T(step == 1 || h.momentum == 0 ? 1 : 1 - h.dampening)),
        nesterov(h.nesterov != 0) {}

  HD void operator()(T& p, T g, T& momentum_buffer) const {
    momentum_buffer = momentum * momentum_buffer + undamped * g;
    p -= lr * (nesterov ? g + momentum * momentum_buffer : momentum_buffer);
  }
};

}  // namespace gradstep
