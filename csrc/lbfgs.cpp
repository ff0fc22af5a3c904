#include "lbfgs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gradstep {
namespace {

constexpr double longest_step = 1e10;

std::size_t squared(int n) { return std::size_t(n) * std::size_t(n); }

}  // namespace

History::History(int capacity)
    : capacity_(capacity),
      serials_(slots()),
      length_(slots()),
      sy_(squared(slots())),
      yy_(squared(slots())),
      ss_(squared(slots())),
      dg_(slots()),
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

void History::push(int slot) {
  pairs_.push_back(slot);
  serials_[slot] = ++pushed_;
}

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
  list_rows();
  const void* const x[] = {place_.x};
  const Products products[] = {{left, left}, {left, rows_}, {x, x}};
  Pass p = pass({&copied, 1});
  p.products = products, p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  at_x_ = {found.scalar, found.largest, found.dots[0]};
  const double norm = std::sqrt(found.dots.back());
  const double precision = is_double(place_.storage) ? 0x1p-52 : 0x1p-23;
  rounding_ = precision * norm;
  const double far = 1024 * (region_ ? region_->precision() : precision) * norm;
  first_step_ = std::isfinite(far) ? std::max(1.0, far) : 1;
  if (region_) at_x_.largest = region_->largest(doubles(place_.x), doubles(place_.gradient));
  const double* product = &found.dots[1];
  for (const int k : history_.pairs()) history_.dg(k) = *product++, history_.yg(k) = *product++;
  told_ = nullptr;
}

void Lbfgs::list_rows() {
  rows_.clear();
  for (const int k : history_.pairs()) rows_.push_back(direction(k)), rows_.push_back(change(k));
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

// The change of the gradient, and the products with all pairs.
void Lbfgs::measure_all(Scalar f, const void* g, void* stream) {
  history_.make_room();
  list_rows();
  const void *const d = direction(slot_), *const y = change(slot_);
  const Term terms[] = {{1, g}, {-1, place_.gradient}};
  const Combination change_of_g{change(slot_), terms};
  const void* const own[] = {d, y, g};
  const void* with_rows[] = {g, d, y};
  int count = region_ ? 2 : 1;
  if (Vectors::far()) with_rows[count++] = y;
  const Products products[] = {{own, own}, {std::span(with_rows).first(count), rows_}};
  Pass p = pass({&change_of_g, 1});
  p.products = products, p.largest = g, p.scalar = f;
  const Results found = vectors_.run(p, stream);
  dd_ = found.dots[0], dy_ = found.dots[1], yy_ = found.dots[4], yg_ = found.dots[5];
  slope_ = found.dots[2];
  at_trial_ = {found.scalar, found.largest, found.dots[8]};
  const auto n = std::ptrdiff_t(rows_.size());
  const double* at = &found.dots[9];
  g_with_.assign(at, at + n);
  if (region_) d_with_.assign(at + n, at + 2 * n);
  if (Vectors::far()) y_with_.assign(at + (count - 1) * n, at + count * n);
  find_products_of_change(stream);
}

// The change is a difference of two gradients, and so are its products of theirs: as exact as in a pass of
// their own, unless little is left of the difference.
void Lbfgs::find_products_of_change(void* stream) {
  constexpr double little = 1e-3;
  const auto& pairs = history_.pairs();
  if (yy_ >= little * little * std::max(at_trial_.gg, at_x_.gg)) {
    y_with_.resize(rows_.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      y_with_[2 * i] = g_with_[2 * i] - history_.dg(pairs[i]);
      y_with_[2 * i + 1] = g_with_[2 * i + 1] - history_.yg(pairs[i]);
    }
  } else if (!Vectors::far()) {
    const void* const left[] = {change(slot_)};
    const Products products{left, rows_};
    Pass p = pass({});
    p.products = {&products, 1};
    const Results found = vectors_.run(p, stream);
    y_with_.assign(found.dots.begin(), found.dots.end());
  }
}

void Lbfgs::try_step(void* stream) {
  if (region_)
    return region_->go(doubles(place_.x), doubles(direction(slot_)), search_.step(), doubles(place_.trial));
  const Term terms[] = {{1, place_.x}, {search_.step(), direction(slot_)}};
  const Combination trial{place_.trial, terms};
  vectors_.run(pass({&trial, 1}), stream);
}

Lbfgs::Task Lbfgs::tell(Scalar f, const void* g, void* stream) {
  const bool all = Vectors::far() || last_chance_ || search_.falls(f.value);
  all ? measure_all(f, g, stream) : measure(f, g, stream);
  const bool finite = std::isfinite(at_trial_.f) && std::isfinite(at_trial_.largest) && std::isfinite(slope_);
  const bool worse = !finite || at_trial_.f > search_.start().f;
  if (!std::exchange(last_chance_, false)) {
    const auto answer = search_.tell(finite ? at_trial_.f : std::numeric_limits<double>::quiet_NaN(), slope_);
    if (answer == LineSearch::Answer::go_on) {
      if (++trials_ >= max_line_search_) return fall_back(stream);
      try_step(stream);
      return Task::trial;
    }
    if (worse) return fall_back(stream);
  }
  if (worse) return Task::failed;
  if (!all) measure_all(f, g, stream);
  const bool lost = search_.step() * std::sqrt(dd_) <= rounding_;  // as x may not have moved at all
  if (lost && at_trial_.f == search_.start().f && !(at_trial_.gg < at_x_.gg)) return Task::failed;
  return accept(g, stream);
}

// To the best point of a search that has failed.
Lbfgs::Task Lbfgs::fall_back(void* stream) {
  if (!search_.take_best()) return Task::failed;
  last_chance_ = true;
  try_step(stream);
  return Task::trial;
}

// A pair joins the history where the curvature along the step can be told from rounding.
Lbfgs::Task Lbfgs::accept(const void* g, void* stream) {
  History& h = history_;
  length_ = search_.step(), step_norm_ = length_ * std::sqrt(dd_);
  const bool curved = dy_ > std::numeric_limits<double>::epsilon() * -search_.start().slope && yy_ > 0 &&
                      std::isfinite(yy_) && length_ * dy_ > 0;
  std::size_t at = 0;
  for (const int k : h.pairs()) {
    h.sy(k, slot_) = h.length(k) * y_with_[at];
    h.yy(k, slot_) = h.yy(slot_, k) = y_with_[at + 1];
    h.dg(k) = g_with_[at], h.yg(k) = g_with_[at + 1];
    if (region_) {
      h.ss(k, slot_) = h.ss(slot_, k) = h.length(k) * length_ * d_with_[at];
      h.sy(slot_, k) = length_ * d_with_[at + 1];
    }
    at += 2;
  }
  if (curved) {
    h.length(slot_) = length_;
    h.sy(slot_, slot_) = length_ * dy_;
    h.yy(slot_, slot_) = yy_;
    h.ss(slot_, slot_) = step_norm_ * step_norm_;
    h.dg(slot_) = slope_, h.yg(slot_) = yg_;
    h.push(slot_);
  }
  at_x_ = at_trial_;
  told_ = g;
  if (region_) settle(stream);
  return Task::moved;
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
  trials_ = 0, last_chance_ = false;
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
  search_ = LineSearch(at_x_.f, slope, first_ ? first_step_ / std::sqrt(at_x_.gg) : 1, longest_step);
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
  while (true) {
    const bool chosen = region_->choose(x, doubles(place_.gradient), history_, row, d);
    const Results found = vectors_.run(p, stream);
    slope = found.dots[0], dd = found.dots[1];
    if (history_.pairs().empty() || (chosen && slope < 0 && std::isfinite(slope))) break;
    history_.clear();
  }
  const double longest = first_ ? 1 : std::min(longest_step, region_->longest(x, d));
  const double step =
      first_ && !region_->closed() ? std::min(first_step_ / std::sqrt(dd), longest) : std::min(1.0, longest);
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
