// A step along a direction of descent that satisfies the strong Wolfe conditions.
//
// J. J. Moré and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM
// Transactions on Mathematical Software 20 (1994), 286-307.
#pragma once
#include <algorithm>
#include <cmath>

namespace gradstep {

class LineSearch {
 public:
  enum class Answer { go_on, done, stuck };  // stuck: no better step than the present can be told apart

  LineSearch() = default;
  LineSearch(double f, double slope, double step, double longest)
      : start_{0, f, slope}, best_(start_), other_(start_), step_(step), longest_(longest) {
    width_ = longest, width_before_ = 2 * longest;
    low_ = 0, high_ = 5 * step;
  }

  double step() const { return step_; }
  const auto& start() const { return start_; }

  // Whether the function has fallen enough at the present step.
  bool falls(double f) const { return f <= sufficient(step_); }

  // Goes back to the best step, if one was better than none.
  bool take_best() {
    if (!(best_.step > 0 && best_.f < start_.f)) return false;
    step_ = best_.step;
    return true;
  }

  // What was found at the present step; chooses the next where it is to go on.
  Answer tell(double f, double slope) {
    if (!std::isfinite(f) || !std::isfinite(slope)) return back_away();
    const Point here{step_, f, slope};
    if (first_stage_ && falls(f) && slope >= 0) first_stage_ = false;
    if (falls(f) && std::fabs(slope) <= curvature * -start_.slope) return Answer::done;
    if (bracketed_ && (step_ <= low_ || step_ >= high_ || high_ - low_ <= narrow * high_))
      return Answer::stuck;
    if (step_ == longest_ && falls(f) && slope <= decrease * start_.slope) return Answer::stuck;
    if (first_stage_ && f <= best_.f && !falls(f)) {
      best_ = tilted(best_, -1), other_ = tilted(other_, -1);
      update(tilted(here, -1));
      best_ = tilted(best_, 1), other_ = tilted(other_, 1);
    } else {
      update(here);
    }
    limit();
    return step_ > 0 ? Answer::go_on : Answer::stuck;
  }

 private:
  struct Point {
    double step, f, slope;
  };
  static constexpr double decrease = 1e-3, curvature = 0.9, narrow = 0.1;

  double sufficient(double step) const { return start_.f + step * (decrease * start_.slope); }

  // The point on the function less the line of sufficient decrease, and back.
  Point tilted(Point p, double sign) const {
    const double slope = decrease * start_.slope;
    return {p.step, p.f + sign * p.step * slope, p.slope + sign * slope};
  }

  // From where the function is no number: towards the best step, and never so far again.
  Answer back_away() {
    longest_ = high_ = step_;
    step_ = best_.step + 0.1 * (step_ - best_.step);
    low_ = std::min(low_, step_);
    return step_ > best_.step && step_ < longest_ ? Answer::go_on : Answer::stuck;
  }

  // Of the cubic through two points with their slopes, what its minimum is computed from.
  struct Cubic {
    double theta, gamma;

    Cubic(const Point& a, const Point& b) {
      theta = 3 * (a.f - b.f) / (b.step - a.step) + a.slope + b.slope;
      const double scale = std::max({std::fabs(theta), std::fabs(a.slope), std::fabs(b.slope)});
      const double square = theta / scale * (theta / scale) - a.slope / scale * (b.slope / scale);
      gamma = scale * std::sqrt(std::max(0.0, square));
    }
  };

  // The four cases of the paper's section 4, in its order.
  void update(const Point& p) {
    const Point& a = best_;
    const double towards = p.slope * std::copysign(1.0, a.slope);
    double next;
    if (p.f > a.f) {
      const double cubic = minimum(a, p, p.step < a.step), square = parabola(a, p);
      next = std::fabs(cubic - a.step) < std::fabs(square - a.step) ? cubic : cubic + (square - cubic) / 2;
      bracketed_ = true;
    } else if (towards < 0) {
      next = farther(p.step, minimum(p, a, p.step > a.step), secant(p, a));
      bracketed_ = true;
    } else if (std::fabs(p.slope) < std::fabs(a.slope)) {
      next = beyond(p);
    } else if (bracketed_) {
      next = minimum(p, other_, p.step > other_.step);
    } else {
      next = p.step > a.step ? high_ : low_;
    }
    if (p.f > a.f) {
      other_ = p;
    } else {
      if (towards < 0) other_ = best_;
      best_ = p;
    }
    step_ = next;
  }

  // The minimum of the cubic through two points, seen from `a`.
  static double minimum(const Point& a, const Point& b, bool downwards) {
    const Cubic c(a, b);
    const double gamma = downwards ? -c.gamma : c.gamma;
    const double share = (gamma - a.slope + c.theta) / (gamma - a.slope + gamma + b.slope);
    return a.step + share * (b.step - a.step);
  }

  // Of the parabola through both values and the slope at `a`; and of the one through both slopes.
  static double parabola(const Point& a, const Point& b) {
    return a.step + a.slope / ((a.f - b.f) / (b.step - a.step) + a.slope) / 2 * (b.step - a.step);
  }
  static double secant(const Point& a, const Point& b) {
    return a.step + a.slope / (a.slope - b.slope) * (b.step - a.step);
  }
  static double farther(double from, double x, double y) {
    return std::fabs(x - from) > std::fabs(y - from) ? x : y;
  }

  // The slope falls but keeps its sign: the cubic may have no minimum that way.
  double beyond(const Point& p) const {
    const Point& a = best_;
    const Cubic c(a, p);
    const double gamma = p.step > a.step ? -c.gamma : c.gamma;
    const double share = (gamma - p.slope + c.theta) / (gamma + (a.slope - p.slope) + gamma);
    const double cubic = share < 0 && gamma != 0 ? p.step + share * (a.step - p.step)
                         : p.step > a.step       ? high_
                                                 : low_;
    const double square = secant(p, a);
    if (!bracketed_) return std::max(low_, std::min(high_, farther(p.step, cubic, square)));
    const double nearer = farther(p.step, cubic, square) == cubic ? square : cubic;
    const double edge = p.step + 0.66 * (other_.step - p.step);
    return p.step > a.step ? std::min(edge, nearer) : std::max(edge, nearer);
  }

  // Keeps the interval shrinking, and the step within it.
  void limit() {
    if (bracketed_) {
      const double width = std::fabs(other_.step - best_.step);
      if (width >= 0.66 * width_before_) step_ = best_.step + 0.5 * (other_.step - best_.step);
      width_before_ = width_, width_ = width;
      low_ = std::min(best_.step, other_.step), high_ = std::max(best_.step, other_.step);
    } else {
      low_ = step_ + 1.1 * (step_ - best_.step), high_ = step_ + 4 * (step_ - best_.step);
    }
    step_ = std::clamp(step_, 0.0, longest_);
    if (bracketed_ && (step_ <= low_ || step_ >= high_ || high_ - low_ <= narrow * high_)) step_ = best_.step;
  }

  Point start_{}, best_{}, other_{};
  double step_ = 0, longest_ = 0, low_ = 0, high_ = 0, width_ = 0, width_before_ = 0;
  bool bracketed_ = false, first_stage_ = true;
};

}  // namespace gradstep
