#pragma once
#include "rule.h"

namespace gradstep {

// What is written where: the "parameter" becomes its "gradient", in the parameter's format.
template <class T>
struct Copy {
  static constexpr const char* name = "copy";
  static constexpr Names<0> hypers = {};
  static constexpr Names<0> states = {};
  struct Hyper {};

  HD Copy(const Hyper&, std::int64_t) {}

  HD void operator()(T& p, T g) const { p = g; }
};

}  // namespace gradstep
