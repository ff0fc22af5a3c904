#include "box.h"

#include <limits>
#include <optional>
#include <utility>

#include "../lanes.h"
#include "../norm.h"
#include "dense.h"

namespace gradstep {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The model's Hessian, theta I - W M W', of the pairs of a history: W's columns are the changes of the
// gradient, then theta times the steps.
class Model {
 public:
  Model(History& history, const std::function<const double*(int)>& row)
      : pairs(int(history.pairs().size())), inverse_middle(2 * pairs), gram(2 * pairs) {
    const auto& slots = history.pairs();
    if (pairs) theta = history.yy(slots.back(), slots.back()) / history.sy(slots.back(), slots.back());
    for (const int k : slots) {
      rows.push_back(row(history.slots() + k));
      factors.push_back(1);
      numbers.push_back(2 * std::size_t(k)), serials.push_back(history.serial(k));
    }
    for (const int k : slots) {
      rows.push_back(row(k));
      factors.push_back(theta * history.length(k));
      numbers.push_back(2 * std::size_t(k) + 1), serials.push_back(history.serial(k));
    }
    Square& middle = inverse_middle;
    for (int i = 0; i < pairs; ++i)
      for (int j = 0; j < pairs; ++j) {
        const int a = slots[i], b = slots[j];
        middle(i, j) = i == j ? -history.sy(a, a) : 0;
        middle(pairs + i, j) = middle(j, pairs + i) = i > j ? history.sy(a, b) : 0;
        middle(pairs + i, pairs + j) = theta * history.ss(a, b);
        gram(i, j) = history.yy(a, b);
        gram(pairs + i, j) = gram(j, pairs + i) = theta * history.sy(a, b);
        gram(pairs + i, pairs + j) = theta * theta * history.ss(a, b);
      }
    middle_.emplace(middle);
  }

  int columns() const { return 2 * pairs; }
  bool regular() const { return std::isfinite(theta) && theta > 0 && middle_->regular(); }
  void times_middle(std::vector<double>& v) const { middle_->solve(v.data()); }
  double entry(int column, std::int64_t i) const { return factors[column] * rows[column][i]; }

  // W' v.
  std::vector<double> down(const std::vector<double>& v) const {
    std::vector<double> found;
    for (int c = 0; c < columns(); ++c)
      found.push_back(factors[c] *
                      lane_sum(std::int64_t(v.size()), [&](std::int64_t i) { return rows[c][i] * v[i]; }));
    return found;
  }

  // Adds W c times a factor.
  void add_up(const std::vector<double>& c, double factor, std::vector<double>& to) const {
    for (int k = 0; k < columns(); ++k) {
      const double scale = factor * c[k] * factors[k];
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += scale * rows[k][i];
    }
  }

  double theta = 1;
  int pairs;
  std::vector<const double*> rows;
  std::vector<double> factors;
  std::vector<std::size_t> numbers;   // of each row, by slot: in every iteration the same
  std::vector<std::int64_t> serials;  // of each row's pair
  Square inverse_middle;
  Square gram;  // W' W

 private:
  std::optional<Factors> middle_;
};

// Products of a model's rows with each other, over some of the variables: kept from one iteration to the
// next, as one pair is new then, and few variables come and go.
class PartialGram {
 public:
  explicit PartialGram(std::size_t n) : taken_(n) {}

  void update(const Model& model, const std::vector<std::size_t>& variables) {
    const std::size_t width = std::max(w_.size(), 1 + std::ranges::max(model.numbers));
    w_.assign(width, 0), row_.resize(width), serials_.resize(width), sums_.resize(width * (width + 1) / 2);
    before_.swap(taken_), changed_.clear();
    taken_.assign(before_.size(), false);
    for (const std::size_t k : variables) taken_[k] = true;
    for (std::size_t k = 0; k < taken_.size(); ++k)
      if (taken_[k] != before_[k]) changed_.push_back(k);
    const bool anew = changed_.size() >= variables.size();
    if (anew) std::ranges::fill(sums_, 0);
    for (const std::size_t k : anew ? variables : changed_) add(model, k, taken_[k] ? 1 : -1);
    for (std::size_t c = 0; c < model.rows.size(); ++c) {
      const bool known = std::exchange(serials_[model.numbers[c]], model.serials[c]) == model.serials[c];
      if (!known && !anew) renew(model, model.numbers[c], variables);
    }
  }
  double operator()(std::size_t i, std::size_t j) const { return sums_[at(i, j)]; }

 private:
  static std::size_t at(std::size_t i, std::size_t j) { return i < j ? at(j, i) : i * (i + 1) / 2 + j; }

  void read(const Model& model, std::size_t variable) {
    for (std::size_t c = 0; c < model.rows.size(); ++c) w_[model.numbers[c]] = model.rows[c][variable];
  }

  void add(const Model& model, std::size_t variable, double sign) {
    read(model, variable);
    double* sum = sums_.data();
    for (std::size_t i = 0; i < w_.size(); sum += ++i) {
      const double factor = sign * w_[i];
      for (std::size_t j = 0; j <= i; ++j) sum[j] += factor * w_[j];
    }
  }

  void renew(const Model& model, std::size_t number, const std::vector<std::size_t>& variables) {
    std::ranges::fill(row_, 0);
    for (const std::size_t k : variables) {
      read(model, k);
      const double factor = w_[number];
      for (std::size_t j = 0; j < w_.size(); ++j) row_[j] += factor * w_[j];
    }
    for (std::size_t j = 0; j < w_.size(); ++j) sums_[at(number, j)] = row_[j];
  }

  std::vector<char> taken_, before_;
  std::vector<std::size_t> changed_;
  std::vector<double> w_, row_;  // of one variable, by number; of one row
  std::vector<std::int64_t> serials_;
  std::vector<double> sums_;  // the lower half
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

class Box final : public Region {
 public:
  Box(std::span<const double> lower, std::span<const double> upper, double precision)
      : lower_(lower.begin(), lower.end()),
        upper_(upper.begin(), upper.end()),
        target_(lower.size()),
        precision_(precision),
        few_(lower.size()) {}

  void project(double* x) const override {
    for (std::size_t i = 0; i < n(); ++i) x[i] = within(i, x[i]);
  }

  double largest(const double* x, const double* g) const override {
    double most = 0;
    for (std::size_t i = 0; i < n(); ++i) {
      const double room = g[i] < 0 ? upper_[i] - x[i] : x[i] - lower_[i];
      const double magnitude = std::fabs(g[i]);
      most = greater(most, room < magnitude ? room : magnitude);
    }
    return most;
  }

  bool closed() const override {
    for (std::size_t i = 0; i < n(); ++i)
      if (lower_[i] == -infinity || upper_[i] == infinity) return false;
    return true;
  }

  double precision() const override { return precision_; }

  double longest(const double* x, const double* d) const override {
    double step = infinity;
    for (std::size_t i = 0; i < n(); ++i) {
      if (d[i] < 0) step = std::min(step, (lower_[i] - x[i]) / d[i]);
      if (d[i] > 0) step = std::min(step, (upper_[i] - x[i]) / d[i]);
    }
    return step;
  }

  void go(const double* x, const double* d, double step, double* to) const override {
    for (std::size_t i = 0; i < n(); ++i) to[i] = step == 1 ? target_[i] : within(i, x[i] + step * d[i]);
  }

  bool choose(const double* x, const double* g, History& history,
              const std::function<const double*(int)>& row, double* direction) override {
    const Model model(history, row);
    if (model.pairs && !model.regular()) return false;
    std::vector<double> c(model.columns());
    cauchy_point(x, g, model, c);
    const bool found = !model.pairs || minimize_subspace(x, g, model, c);
    for (std::size_t i = 0; i < n(); ++i) direction[i] = target_[i] - x[i];
    return found;
  }

 private:
  std::size_t n() const { return lower_.size(); }
  double within(std::size_t i, double x) const {
    return x < lower_[i] ? lower_[i] : x > upper_[i] ? upper_[i] : x;
  }
  bool at_bound(std::size_t i) const { return target_[i] <= lower_[i] || target_[i] >= upper_[i]; }

  struct Break {
    double t;
    std::size_t i;
    bool operator>(const Break& b) const { return t != b.t ? t > b.t : i > b.i; }
  };

  // Where the path of steepest descent, bent by the bounds, meets the first minimum of the model: the
  // paper's algorithm CP. To `target_`, and W' (target - x) to `c`.
  void cauchy_point(const double* x, const double* g, const Model& model, std::vector<double>& c) {
    auto& [d, breaks] = path_;
    d.assign(n(), 0);
    breaks.clear();
    for (std::size_t i = 0; i < n(); ++i) {
      const double bound = g[i] < 0 ? upper_[i] : lower_[i];
      const double t = g[i] == 0 ? infinity : (x[i] - bound) / g[i];
      d[i] = t > 0 ? -g[i] : 0;
      target_[i] = x[i];
      if (t > 0 && t < infinity) breaks.push_back({t, i});
    }
    std::vector<double> p = model.down(d), mp = p, w(model.columns()), mw;
    model.times_middle(mp);
    double slope = -dot(d, d), curvature = -model.theta * slope - dot(p, mp);
    const double least = std::numeric_limits<double>::epsilon() * -model.theta * slope;
    double t = 0, rest = -slope / curvature;
    std::ranges::make_heap(breaks, std::greater<>());
    while (slope < 0 && !breaks.empty() && rest >= breaks.front().t - t) {
      const auto [at, b] = breaks.front();
      std::ranges::pop_heap(breaks, std::greater<>());
      breaks.pop_back();
      const double step = at - t, gb = g[b];
      t = at;
      target_[b] = gb < 0 ? upper_[b] : lower_[b];
      const double moved = target_[b] - x[b];
      for (int k = 0; k < model.columns(); ++k) c[k] += step * p[k], w[k] = model.entry(k, std::int64_t(b));
      mw = w;
      model.times_middle(mw);
      slope += step * curvature + gb * gb + model.theta * gb * moved - gb * dot(mw, c);
      curvature -= model.theta * gb * gb + 2 * gb * dot(mw, p) + gb * gb * dot(mw, w);
      curvature = std::max(curvature, least);
      for (int k = 0; k < model.columns(); ++k) p[k] += gb * w[k];
      d[b] = 0;
      rest = -slope / curvature;
    }
    rest = std::isfinite(rest) && rest > 0 ? rest : 0;
    t += rest;
    for (std::size_t i = 0; i < n(); ++i)
      if (d[i] != 0) target_[i] = within(i, x[i] + t * d[i]);
    for (int k = 0; k < model.columns(); ++k) c[k] += rest * p[k];
  }

  // The minimum over the variables that are free at the Cauchy point, by the paper's direct primal method;
  // false if the system is singular.
  bool minimize_subspace(const double* x, const double* g, const Model& model, const std::vector<double>& c) {
    auto& [free, active, r, step, cauchy] = subspace_;
    free.clear(), active.clear();
    for (std::size_t i = 0; i < n(); ++i) (at_bound(i) ? active : free).push_back(i);
    if (free.empty()) return true;
    std::vector<double> mc = c;
    r.assign(n(), 0), step.assign(n(), 0);
    model.times_middle(mc);
    model.add_up(mc, 1, r);
    for (const std::size_t i : free) r[i] -= g[i] + model.theta * (target_[i] - x[i]);
    for (const std::size_t i : active) r[i] = 0;
    std::vector<double> v = model.down(r);
    const Factors system(subspace_system(model));
    if (!system.regular()) return false;
    system.solve(v.data());
    model.add_up(v, 1 / (model.theta * model.theta), step);
    for (const std::size_t i : free) step[i] += r[i] / model.theta;
    return take(x, g);
  }

  // The inverse of M less W' Z Z' W / theta, where Z picks the free variables: summed over them, or over the
  // others and taken off, whichever are fewer.
  Square subspace_system(const Model& model) {
    const auto& [free, active, r, step, cauchy] = subspace_;
    if ((by_free_ ? free : active).size() > 2 * (by_free_ ? active : free).size()) by_free_ = !by_free_;
    few_.update(model, by_free_ ? free : active);
    Square system = model.inverse_middle;
    for (int i = 0; i < model.columns(); ++i)
      for (int j = 0; j < model.columns(); ++j) {
        const double sum = model.factors[i] * model.factors[j] * few_(model.numbers[i], model.numbers[j]);
        system(i, j) -= (by_free_ ? sum : model.gram(i, j) - sum) / model.theta;
      }
    return system;
  }

  // To the projection of the minimum where that descends, else as far towards the minimum as the bounds
  // allow.
  bool take(const double* x, const double* g) {
    auto& [free, active, r, step, cauchy] = subspace_;
    cauchy = target_;
    for (const std::size_t i : free) target_[i] = within(i, cauchy[i] + step[i]);
    double slope = 0;
    for (std::size_t i = 0; i < n(); ++i) slope += (target_[i] - x[i]) * g[i];
    if (slope <= 0) return true;
    double share = 1;
    for (const std::size_t i : free) {
      const double room = (step[i] < 0 ? lower_[i] : upper_[i]) - cauchy[i];
      if (step[i] != 0 && room / step[i] < share) share = room / step[i];
    }
    if (!(share >= 0)) return false;
    for (const std::size_t i : free) target_[i] = within(i, cauchy[i] + share * step[i]);
    return true;
  }

  std::vector<double> lower_, upper_, target_;
  double precision_;
  bool by_free_ = true;
  PartialGram few_;  // over the free variables, or over the others
  // Used again in each iteration.
  struct Path {
    std::vector<double> d;
    std::vector<Break> breaks;
  } path_;
  struct Subspace {
    std::vector<std::size_t> free, active;
    std::vector<double> r, step, cauchy;
  } subspace_;
};

}  // namespace

std::unique_ptr<Region> make_box(std::span<const double> lower, std::span<const double> upper,
                                 double precision) {
  return std::make_unique<Box>(lower, upper, precision);
}

}  // namespace gradstep
