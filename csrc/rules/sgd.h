#pragma once
#include "rule.h"

namespace gradstep {

// SGD with PyTorch's momentum: lr stands outside the buffer, the first gradient enters it undamped, and a
// step without momentum, which a schedule may ask for, leaves it alone.
template <class T>
struct SGD {
  static constexpr const char* name = "sgd";
  static constexpr Names<4> hypers = {"lr", "momentum", "dampening", "nesterov"};
  static constexpr Names<1> states = {"momentum_buffer"};
  struct Hyper {
    double lr, momentum, dampening, nesterov;
  };

  T lr, momentum, undamped;
  bool moving, nesterov;

  HD SGD(const Hyper& h, std::int64_t step)
      : lr(T(h.lr)),
        momentum(T(h.momentum)),
        undamped(T(step == 1 ? 1 : 1 - h.dampening)),
        moving(h.momentum != 0),
        nesterov(h.nesterov != 0) {}

  HD void operator()(T& p, T g, T& momentum_buffer) const {
    const T moved = momentum * momentum_buffer + undamped * g;
    const T step = nesterov ? g + momentum * moved : moved;
    momentum_buffer = moving ? moved : momentum_buffer;
    p -= lr * (moving ? step : g);
  }
};

}  // namespace gradstep
