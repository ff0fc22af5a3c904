// The limited-memory BFGS method on vectors that lie with a backend, as a dialogue: whoever holds the
// function evaluates it at `trial`, and tells what came out.
//
// J. Nocedal and S. J. Wright, "Numerical Optimization" (2006), chapter 7; the recursion on products as in
// W. Chen, Z. Wang, J. Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "line_search.h"
#include "vectors.h"

namespace gradstep {

// The last `capacity` pairs (step, change of the gradient), and their products. A pair is a number of a slot;
// of a step, its direction lies in memory, and its length here.
class History {
 public:
  explicit History(int capacity);

  int capacity() const { return capacity_; }
  int slots() const { return capacity_ + 1; }               // one is for the pair in the making
  const std::vector<int>& pairs() const { return pairs_; }  // the oldest first
  int free_slot() const;
  void push(int slot);
  std::int64_t serial(int slot) const { return serials_[slot]; }  // another for each pair
  void make_room();                                               // the oldest pair goes if there is none
  void clear() { pairs_.clear(); }

  double& length(int slot) { return length_[slot]; }
  double& sy(int i, int j) { return sy_[i * slots() + j]; }  // the step of i, the change of j
  double& yy(int i, int j) { return yy_[i * slots() + j]; }
  double& ss(int i, int j) { return ss_[i * slots() + j]; }
  double& dg(int i) { return dg_[i]; }  // of the direction with the gradient at x
  double& yg(int i) { return yg_[i]; }  // likewise of the change
  double sg(int i) const { return length_[i] * dg_[i]; }

 private:
  int capacity_;
  std::int64_t pushed_ = 0;
  std::vector<int> pairs_;
  std::vector<std::int64_t> serials_;
  std::vector<double> length_, sy_, yy_, ss_, dg_, yg_;
};

// Where x may go, if not everywhere: on the CPU and in double.
class Region {
 public:
  virtual ~Region() = default;

  virtual void project(double* x) const = 0;
  // The greatest magnitude in the gradient as far as x may follow it.
  virtual double largest(const double* x, const double* g) const = 0;
  // A direction of descent; false if the history is of no use for it. `row(k)`: directions, then changes.
  virtual bool choose(const double* x, const double* g, History& history,
                      const std::function<const double*(int)>& row, double* direction) = 0;
  // From x along the direction chosen last.
  virtual void go(const double* x, const double* direction, double step, double* to) const = 0;
  virtual double longest(const double* x, const double* direction) const = 0;
  virtual bool closed() const = 0;       // on every side
  virtual double precision() const = 0;  // of x as the function gets it, relative
};

class Lbfgs {
 public:
  // Where everything lies. `rows`: of each slot the direction, then of each slot the change of the gradient.
  struct Place {
    Storage storage;
    std::int64_t n;
    void *x, *trial, *gradient;
    char* rows;
    std::int64_t row_bytes;
    int device;
  };
  // trial: evaluate there. moved: that was a better point; go on with `advance`. failed: there is none on
  // this direction; `forget` the history and `advance`, or give up.
  enum class Task { trial, moved, failed };

  Lbfgs(const Place& place, int capacity, int max_line_search, std::unique_ptr<Region> region = {});

  // The function and its gradient at x itself; the history stays.
  void begin(Scalar f, const void* g, void* stream);
  // A new direction, and the first trial along it; false if the gradient shows none.
  bool advance(void* stream);
  // The function and its gradient at the trial.
  Task tell(Scalar f, const void* g, void* stream);
  // Moves x and the gradient to the accepted trial, which `advance` does otherwise.
  void settle(void* stream);
  void forget() { history_.clear(); }
  void set_trial(void* trial) { place_.trial = trial; }
  bool first() const { return first_; }
  void set_first(bool first) { first_ = first; }

  // Of the point that was moved to last, or begun at.
  double f() const { return at_x_.f; }
  double largest() const { return at_x_.largest; }  // magnitude in the gradient
  double square() const { return at_x_.gg; }        // of the gradient's norm
  double step_norm() const { return step_norm_; }
  History& history() { return history_; }

 private:
  struct Point {
    double f = 0, largest = 0, gg = 0;
  };

  void* direction(int slot) const { return place_.rows + slot * place_.row_bytes; }
  void* change(int slot) const { return place_.rows + (history_.slots() + slot) * place_.row_bytes; }
  static double* doubles(void* vector) { return static_cast<double*>(vector); }
  Pass pass(std::span<const Combination> combinations) const;
  void measure(Scalar f, const void* g, void* stream);
  void measure_all(Scalar f, const void* g, void* stream);
  void find_products_of_change(void* stream);
  void list_rows();
  void try_step(void* stream);
  Task accept(const void* g, void* stream);
  Task fall_back(void* stream);
  double choose_terms();
  double choose_freely(void* stream);
  double choose_within_region(void* stream);

  Place place_;
  History history_;
  int max_line_search_;
  Vectors vectors_;
  std::unique_ptr<Region> region_;
  LineSearch search_;
  Point at_x_, at_trial_;
  double slope_ = 0;  // at the trial
  double length_ = 0, step_norm_ = 0;
  int slot_ = 0;                // of the direction in use
  int trials_ = 0;              // on it
  bool last_chance_ = false;    // the search has failed, and the trial is the best of its points
  bool first_ = true;           // no step was taken yet
  double rounding_ = 0;         // of x, its norm
  double first_step_ = 1;       // the norm of the first: 1, or as much as can be told from rounding
  const void* told_ = nullptr;  // the gradient at the accepted trial, until it is copied
  // Products at the trial, of direction, change and gradient: among themselves, and with rows_, which are the
  // direction and the change of each pair.
  double dd_ = 0, dy_ = 0, yy_ = 0, yg_ = 0;
  std::vector<const void*> rows_;
  std::vector<double> g_with_, d_with_, y_with_;
  std::vector<double> alpha_, weight_;
  std::vector<Term> terms_;  // of the direction
};

}  // namespace gradstep
