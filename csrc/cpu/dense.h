// Small square matrices, of twice as many rows as an L-BFGS history has pairs.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace gradstep {

class Square {
 public:
  explicit Square(int n) : n_(n), at_(std::size_t(n) * std::size_t(n)) {}

  int size() const { return n_; }
  double& operator()(int i, int j) { return at_[std::size_t(i) * std::size_t(n_) + std::size_t(j)]; }
  double operator()(int i, int j) const { return at_[std::size_t(i) * std::size_t(n_) + std::size_t(j)]; }

 private:
  int n_;
  std::vector<double> at_;
};

// The LU factorisation with partial pivoting.
class Factors {
 public:
  explicit Factors(Square a) : lu_(std::move(a)), pivot_(std::size_t(lu_.size())) {
    for (int k = 0; k < lu_.size() && regular_; ++k) eliminate(k);
  }

  bool regular() const { return regular_; }

  // Overwrites the right side with the solution.
  void solve(double* b) const {
    const int n = lu_.size();
    for (int k = 0; k < n; ++k) std::swap(b[k], b[pivot_[std::size_t(k)]]);
    for (int k = 0; k < n; ++k)
      for (int i = k + 1; i < n; ++i) b[i] -= lu_(i, k) * b[k];
    for (int k = n - 1; k >= 0; --k) {
      for (int j = k + 1; j < n; ++j) b[k] -= lu_(k, j) * b[j];
      b[k] /= lu_(k, k);
    }
  }

 private:
  void eliminate(int k) {
    const int n = lu_.size();
    int best = k;
    for (int i = k + 1; i < n; ++i)
      if (std::fabs(lu_(i, k)) > std::fabs(lu_(best, k))) best = i;
    pivot_[std::size_t(k)] = best;
    regular_ = std::isfinite(lu_(best, k)) && lu_(best, k) != 0;
    if (!regular_) return;
    for (int j = 0; j < n; ++j)
      if (best != k) std::swap(lu_(k, j), lu_(best, j));
    for (int i = k + 1; i < n; ++i) {
      const double factor = lu_(i, k) /= lu_(k, k);
      if (factor == 0) continue;
      double* const row = &lu_(i, 0);
      const double* const top = &lu_(k, 0);
      for (int j = k + 1; j < n; ++j) row[j] -= factor * top[j];
    }
  }

  Square lu_;
  std::vector<int> pivot_;
  bool regular_ = true;
};

}  // namespace gradstep
