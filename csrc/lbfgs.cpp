#include "lbfgs.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradstep {
namespace {

constexpr double longest_step = 1e10;

std::size_t squared(int n) { return std::size_t(n) * std::size_t(n); }

}  // namespace

History::History(int capacity)
    : capacity_(capacity),
      length_(slots()),
      sy_(squared(slots())),
      yy_(squared(slots())),
      sg_(slots()),
      yg_(slots()) {
  pairs_.reserve(slots());
}

int History::free_slot() const {
  int slot = 0;
  while (std::ranges::find(pairs_, slot) != pairs_.end()) ++slot;
  return slot;
}

void History::push(int slot) {
  pairs_.push_back(slot);
  if (int(pairs_.size()) > capacity_) pairs_.erase(pairs_.begin());
}

Lbfgs::Lbfgs(const Place& place, int capacity, int max_line_search)
    : place_(place), history_(capacity), max_line_search_(max_line_search), vectors_(place.device) {}

Pass Lbfgs::pass(std::span<const Combination> combinations) const {
  return {place_.storage, place_.n, combinations};
}

void Lbfgs::begin(Scalar f, const void* g, void* stream) {
  const Term term{1, g};
  const Combination copied{place_.gradient, {&term, 1}};
  const void* const left[] = {place_.gradient};
  const auto& pairs = history_.pairs();
  right_.assign(1, place_.gradient);
  for (const int k : pairs) right_.push_back(direction(k)), right_.push_back(change(k));
  const Products products{left, right_};
  Pass p = pass({&copied, 1});
  p.products = {&products, 1}, p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  at_x_ = {found.scalar, found.largest, found.dots[0]};
  const double* product = &found.dots[1];
  for (const int k : pairs) {
    history_.sg(k) = history_.length(k) * *product++;
    history_.yg(k) = *product++;
  }
  told_ = nullptr;
}

// The slope is all that a trial needs which is not better.
void Lbfgs::measure(Scalar f, const void* g, void* stream) {
  const void *const left[] = {g}, *const right[] = {direction(slot_)};
  const Products products{left, right};
  Pass p = pass({});
  p.products = {&products, 1}, p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  at_trial_ = {found.scalar, found.largest, 0};
  slope_ = found.dots[0];
}

// The change of the gradient, and the products of both with all pairs.
void Lbfgs::measure_all(Scalar f, const void* g, void* stream) {
  const Term terms[] = {{1, g}, {-1, place_.gradient}};
  const Combination change_of_g{change(slot_), terms};
  const void *const left[] = {change(slot_), g}, *const d[] = {direction(slot_)};
  right_.assign({d[0], left[0], g});
  for (const int k : history_.pairs()) right_.push_back(direction(k)), right_.push_back(change(k));
  const Products products[] = {{left, right_}, {d, d}};
  Pass p = pass({&change_of_g, 1});
  p.products = products, p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  products_.assign(found.dots.begin(), found.dots.end());
  const std::size_t n = right_.size();
  at_trial_ = {found.scalar, found.largest, products_[n + 2]};
  slope_ = products_[n], dd_ = products_[2 * n];
}

Lbfgs::Task Lbfgs::tell(Scalar f, const void* g, void* stream) {
  const bool all = f.at || search_.falls(f.value);
  all ? measure_all(f, g, stream) : measure(f, g, stream);
  const bool finite = std::isfinite(at_trial_.f) && std::isfinite(at_trial_.largest) && std::isfinite(slope_);
  const auto answer = search_.tell(finite ? at_trial_.f : std::numeric_limits<double>::quiet_NaN(), slope_);
  if (answer == LineSearch::Answer::go_on) {
    if (++trials_ >= max_line_search_) return Task::failed;
    const Term terms[] = {{1, place_.x}, {search_.step(), direction(slot_)}};
    const Combination trial{place_.trial, terms};
    vectors_.run(pass({&trial, 1}), stream);
    return Task::trial;
  }
  if (!finite || at_trial_.f > search_.start().f) return Task::failed;
  if (!all) measure_all(f, g, stream);
  accept(g);
  return Task::moved;
}

// A pair joins the history where the curvature along the step can be told from rounding.
void Lbfgs::accept(const void* g) {
  const double yd = products_[0], yy = products_[1];
  const std::size_t n = right_.size();
  length_ = search_.step(), step_norm_ = length_ * std::sqrt(dd_);
  const bool curved = yd > std::numeric_limits<double>::epsilon() * -search_.start().slope && yy > 0 &&
                      std::isfinite(yy) && length_ * yd > 0;
  std::size_t at = 3;
  for (const int k : history_.pairs()) {
    history_.sy(k, slot_) = history_.length(k) * products_[at];
    history_.yy(k, slot_) = history_.yy(slot_, k) = products_[at + 1];
    history_.sg(k) = history_.length(k) * products_[n + at];
    history_.yg(k) = products_[n + at + 1];
    at += 2;
  }
  if (curved) {
    history_.length(slot_) = length_;
    history_.sy(slot_, slot_) = length_ * yd;
    history_.yy(slot_, slot_) = yy;
    history_.sg(slot_) = length_ * products_[n];
    history_.yg(slot_) = products_[n + 1];
    history_.push(slot_);
  }
  at_x_ = at_trial_;
  told_ = g;
}

// The terms of minus the inverse Hessian's estimate times the gradient; returns the slope along it.
double Lbfgs::choose_terms() {
  History& h = history_;
  const auto& pairs = h.pairs();
  const auto count = int(pairs.size());
  alpha_.resize(count), weight_.resize(count);
  for (int i = count - 1; i >= 0; --i) {
    double a = h.sg(pairs[i]);
    for (int j = i + 1; j < count; ++j) a -= alpha_[j] * h.sy(pairs[i], pairs[j]);
    alpha_[i] = a / h.sy(pairs[i], pairs[i]);
  }
  const int last = count ? pairs.back() : 0;
  const double gamma = count ? h.sy(last, last) / h.yy(last, last) : 1;
  for (int i = 0; i < count; ++i) {
    double b = h.yg(pairs[i]);
    for (int j = 0; j < count; ++j) b -= alpha_[j] * h.yy(pairs[i], pairs[j]);
    b *= gamma;
    for (int j = 0; j < i; ++j) b += weight_[j] * h.sy(pairs[j], pairs[i]);
    weight_[i] = alpha_[i] - b / h.sy(pairs[i], pairs[i]);
  }
  double slope = -gamma * at_x_.gg;
  terms_.assign(1, {-gamma, place_.gradient});
  for (int i = 0; i < count; ++i) {
    const int k = pairs[i];
    terms_.push_back({gamma * alpha_[i], change(k)});
    terms_.push_back({-weight_[i] * h.length(k), direction(k)});
    slope += gamma * alpha_[i] * h.yg(k) - weight_[i] * h.sg(k);
  }
  return slope;
}

void Lbfgs::advance(void* stream) {
  double slope = choose_terms();
  if (!(slope < 0 && std::isfinite(slope))) {
    history_.clear();
    slope = choose_terms();
  }
  const double step = first_ ? 1 / std::sqrt(at_x_.gg) : 1;
  const int before = slot_;
  first_ = false, trials_ = 0;
  slot_ = history_.free_slot();
  search_ = LineSearch(at_x_.f, slope, step, longest_step);
  const Term moved[] = {{1, place_.x}, {length_, direction(before)}}, copied[] = {{1, told_}};
  const Term tried[] = {{1, place_.x}, {step, direction(slot_)}};
  const Combination combinations[] = {
      {place_.x, moved}, {place_.gradient, copied}, {direction(slot_), terms_}, {place_.trial, tried}};
  vectors_.run(pass(std::span(combinations).subspan(told_ ? 0 : 2)), stream);
  told_ = nullptr;
}

void Lbfgs::settle(void* stream) {
  if (!told_) return;
  const Term moved[] = {{1, place_.x}, {length_, direction(slot_)}}, copied[] = {{1, told_}};
  const Combination combinations[] = {{place_.x, moved}, {place_.gradient, copied}};
  vectors_.run(pass(combinations), stream);
  told_ = nullptr;
}

}  // namespace gradstep
