// The global norm of gradients, and what it decides: the same few lines wherever it was taken.
#pragma once
#include "backend.h"
#include "rules/rule.h"

namespace gradstep {

// Squares of doubles may leave the range of doubles: then they are taken again in this unit, else it is 1.
HD double unit_for(double sum_sq) {
  return sum_sq > 1e-280 && sum_sq < 1e280 ? 1 : sum_sq < 1 ? 0x1p-600 : 0x1p600;
}

// The square root of a sum of squares: `root` times a power of two.
struct Norm {
  double root, unit;

  HD double over(double divisor) const { return root / divisor * unit; }

  // What gradients are multiplied by: division by grad_scale and clipping by norm in one.
  HD double factor(const Wishes& wishes) const {
    const double infinity = __builtin_inf();
    if (wishes.clip_norm < 0 || wishes.clip_norm == infinity) return 1 / wishes.grad_scale;
    const double taken = over(wishes.grad_scale);
    // The ratio may leave the range of doubles where the factor does not.
    if (taken > 1e200 && taken > wishes.clip_norm) return wishes.clip_norm / unit / root;
    const double ratio = wishes.clip_norm / (taken + 1e-6);
    return (ratio > 1 ? 1 : ratio) / wishes.grad_scale;
  }
};

// Of a sum of squares and, where doubles need it, of another taken in the unit of the first.
HD Norm norm_of_sums(const double* sum_sq, bool doubles) {
  const double unit = doubles ? unit_for(sum_sq[0]) : 1;
  return {root(sum_sq[unit != 1]), unit};
}

// Of two magnitudes; NaN is greater than all.
HD double greater(double a, double b) { return a != a || a > b ? a : b; }

// The norm of parts whose norms are known, over which none of them can leave the range.
template <class Part>
HD double norm_of_norms(const Part* parts, std::int64_t n, double Part::* of) {
  double most = 0, sum_sq = 0;
  ROLLED
  for (std::int64_t i = 0; i < n; ++i) most = greater(most, parts[i].*of);
  if (!(most > 0) || most == __builtin_inf()) return most;
  ROLLED
  for (std::int64_t i = 0; i < n; ++i) sum_sq += parts[i].*of / most * (parts[i].*of / most);
  return root(sum_sq) * most;
}

}  // namespace gradstep
