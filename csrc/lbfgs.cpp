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
      ss_(squared(slots())),
      sg_(slots()),
      yg_(slots()) {
  pairs_.reserve(slots());
}

int History::free_slot() const {
  int slot = 0;
  while (std::ranges::find(pairs_, slot) != pairs_.end()) ++slot;
  return slot;
}

void History::make_room() {
  if (int(pairs_.size()) == capacity_) pairs_.erase(pairs_.begin());
}

void History::push(int slot) { pairs_.push_back(slot); }

Lbfgs::Lbfgs(const Place& place, int capacity, int max_line_search, std::unique_ptr<Region> region)
    : place_(place),
      history_(capacity),
      max_line_search_(max_line_search),
      vectors_(place.device),
      region_(std::move(region)) {
  if (!region_) return;
  region_->project(doubles(place_.x));
  region_->project(doubles(place_.trial));
}

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
  if (region_) at_x_.largest = region_->largest(doubles(place_.x), doubles(place_.gradient));
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

// The change of the gradient; its products, those of the gradient and, where a region needs them, those of
// the direction, with all pairs.
void Lbfgs::measure_all(Scalar f, const void* g, void* stream) {
  history_.make_room();
  const Term terms[] = {{1, g}, {-1, place_.gradient}};
  const Combination change_of_g{change(slot_), terms};
  const void *const left[] = {change(slot_), g, direction(slot_)}, *const d[] = {direction(slot_)};
  right_.assign({d[0], left[0], g});
  for (const int k : history_.pairs()) right_.push_back(direction(k)), right_.push_back(change(k));
  const std::span all(left);
  const Products within[] = {{all, right_}}, freely[] = {{all.first(2), right_}, {d, d}};
  Pass p = pass({&change_of_g, 1});
  p.products = region_ ? std::span<const Products>(within) : freely;
  p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  products_.assign(found.dots.begin(), found.dots.end());
  const std::size_t n = right_.size();
  at_trial_ = {found.scalar, found.largest, products_[n + 2]};
  slope_ = products_[n];
}

void Lbfgs::try_step(void* stream) {
  if (region_)
    return region_->go(doubles(place_.x), doubles(direction(slot_)), search_.step(), doubles(place_.trial));
  const Term terms[] = {{1, place_.x}, {search_.step(), direction(slot_)}};
  const Combination trial{place_.trial, terms};
  vectors_.run(pass({&trial, 1}), stream);
}

Lbfgs::Task Lbfgs::tell(Scalar f, const void* g, void* stream) {
  const bool all = f.at || search_.falls(f.value);
  all ? measure_all(f, g, stream) : measure(f, g, stream);
  const bool finite = std::isfinite(at_trial_.f) && std::isfinite(at_trial_.largest) && std::isfinite(slope_);
  const auto answer = search_.tell(finite ? at_trial_.f : std::numeric_limits<double>::quiet_NaN(), slope_);
  if (answer == LineSearch::Answer::go_on) {
    if (++trials_ >= max_line_search_) return Task::failed;
    try_step(stream);
    return Task::trial;
  }
  if (!finite || at_trial_.f > search_.start().f) return Task::failed;
  if (!all) measure_all(f, g, stream);
  accept(g);
  if (region_) settle(stream);
  return Task::moved;
}

// A pair joins the history where the curvature along the step can be told from rounding.
void Lbfgs::accept(const void* g) {
  const double yd = products_[0], yy = products_[1];
  const std::size_t n = right_.size();
  length_ = search_.step(), step_norm_ = length_ * std::sqrt(products_[2 * n]);
  const bool curved = yd > std::numeric_limits<double>::epsilon() * -search_.start().slope && yy > 0 &&
                      std::isfinite(yy) && length_ * yd > 0;
  std::size_t at = 3;
  for (const int k : history_.pairs()) {
    history_.sy(k, slot_) = history_.length(k) * products_[at];
    history_.yy(k, slot_) = history_.yy(slot_, k) = products_[at + 1];
    history_.sg(k) = history_.length(k) * products_[n + at];
    history_.yg(k) = products_[n + at + 1];
    if (region_) {
      history_.ss(k, slot_) = history_.ss(slot_, k) = history_.length(k) * length_ * products_[2 * n + at];
      history_.sy(slot_, k) = length_ * products_[2 * n + at + 1];
    }
    at += 2;
  }
  if (curved) {
    history_.length(slot_) = length_;
    history_.sy(slot_, slot_) = length_ * yd;
    history_.yy(slot_, slot_) = yy;
    history_.ss(slot_, slot_) = step_norm_ * step_norm_;
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

bool Lbfgs::advance(void* stream) {
  trials_ = 0;
  const double slope = region_ ? choose_within_region(stream) : choose_freely(stream);
  first_ = false;
  return slope < 0;
}

// The direction and the first trial in one pass, and what `settle` does, where it was not done.
double Lbfgs::choose_freely(void* stream) {
  const int before = slot_;
  double slope = choose_terms();
  if (!(slope < 0 && std::isfinite(slope))) {
    history_.clear();
    slope = choose_terms();
  }
  slot_ = history_.free_slot();
  search_ = LineSearch(at_x_.f, slope, first_ ? 1 / std::sqrt(at_x_.gg) : 1, longest_step);
  const Term moved[] = {{1, place_.x}, {length_, direction(before)}}, copied[] = {{1, told_}};
  const Term tried[] = {{1, place_.x}, {search_.step(), direction(slot_)}};
  const Combination combinations[] = {
      {place_.x, moved}, {place_.gradient, copied}, {direction(slot_), terms_}, {place_.trial, tried}};
  vectors_.run(pass(std::span(combinations).subspan(told_ ? 0 : 2)), stream);
  told_ = nullptr;
  return slope;
}

double Lbfgs::choose_within_region(void* stream) {
  settle(stream);
  slot_ = history_.free_slot();
  const auto row = [this](int k) { return doubles(place_.rows + k * place_.row_bytes); };
  double *const x = doubles(place_.x), *const d = row(slot_);
  const void *const left[] = {d}, *const right[] = {place_.gradient, d};
  const Products products{left, right};
  Pass p = pass({});
  p.products = {&products, 1};
  double slope = 0, dd = 0;
  for (bool again = true; again;) {
    again = !history_.pairs().empty();
    const bool chosen = region_->choose(x, doubles(place_.gradient), history_, row, d);
    const Results found = vectors_.run(p, stream);
    slope = found.dots[0], dd = found.dots[1];
    again = again && !(chosen && slope < 0 && std::isfinite(slope));
    if (again) history_.clear();
  }
  const double longest = first_ ? 1 : std::min(longest_step, region_->longest(x, d));
  const double step =
      first_ && !region_->closed() ? std::min(1 / std::sqrt(dd), longest) : std::min(1.0, longest);
  search_ = LineSearch(at_x_.f, slope, step, longest);
  try_step(stream);
  return slope;
}

void Lbfgs::settle(void* stream) {
  if (!told_) return;
  const Term moved[] = {{1, place_.x}, {length_, direction(slot_)}}, copied[] = {{1, told_}};
  const Combination combinations[] = {{place_.gradient, copied}, {place_.x, moved}};
  vectors_.run(pass(std::span(combinations).first(region_ ? 1 : 2)), stream);
  told_ = nullptr;
  if (!region_) return;
  double* const x = doubles(place_.x);
  region_->go(x, doubles(direction(slot_)), length_, x);
  at_x_.largest = region_->largest(x, doubles(place_.gradient));
}

}  // namespace gradstep
