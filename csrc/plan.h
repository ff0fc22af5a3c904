// Arrays that step together, as Python gives them: read and checked, then handed to an engine.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <utility>

#include "array.h"
#include "backend.h"

namespace gradstep {

// Where an array lies, to the element.
using Spot = std::vector<std::int64_t>;
inline void append_spot(Spot& spot, const View& v) {
  spot.insert(spot.end(), {reinterpret_cast<std::intptr_t>(v.data), std::int64_t(v.format)});
  spot.insert(spot.end(), v.shape, v.shape + v.dims);
  spot.insert(spot.end(), v.strides, v.strides + v.dims);
}

// What stays the same from step to step of one array.
struct Slot {
  View p;
  std::vector<std::int64_t> extents;  // shape, then strides: what `p` points to
  bool c_order, f_order;
  void* s[max_states] = {};
  void *master = nullptr, *average = nullptr;
  std::int64_t n = 0;  // real numbers
  int group;
  Ranges::Range apart{};  // where a gradient was last found to meet no memory of ours
  Spot near;              // where one was last that does, and whether an element is shared
  bool shared = false;
  std::optional<Layout> layout;  // with a gradient of these strides, where that makes one necessary
  Format laid_format{};
  std::vector<std::int64_t> laid_strides;
};

class Plan {
 public:
  // `states` holds a tuple of arrays for each state of the rule, `masters` an array or None for each
  // parameter, `groups` the number of each array's group, `keys` what each array is called in messages, and
  // `arguments` where parameters, gradients and each state came in.
  Plan(const std::string& rule, py::tuple params, py::tuple states, py::tuple masters,
       const std::vector<int>& groups, py::tuple keys, std::vector<std::string> arguments)
      : rule_(index_of(rule)),
        arguments_(std::move(arguments)),
        params_(std::move(params)),
        states_(std::move(states)),
        masters_(std::move(masters)),
        keys_(std::move(keys)) {
    if (groups.size() != params_.size() || keys_.size() != params_.size() ||
        masters_.size() != params_.size() || states_.size() != rule_info().states.size() ||
        arguments_.size() != 2 + states_.size())
      throw py::value_error("a plan needs a group, a key and a master of each array, and its rule's states");
    if (std::ranges::any_of(groups, [](int group) { return group < 0; }))
      throw py::value_error("groups are counted from 0");
    for (const py::handle state : states_)
      if (py::len(state) != params_.size()) throw py::value_error("a plan needs each state of every array");
    slots_.resize(params_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i) fill(slots_[i], i, groups[i]);
    hypers_.resize(groups.empty() ? 0 : 1 + *std::ranges::max_element(groups));
    remember_memory();
    tensors_.reserve(slots_.size());
    std::vector<std::int64_t> capacity;
    for (const Slot& slot : slots_) capacity.push_back(slot.n);
    engine_ = std::make_unique<Engine>(std::move(capacity), device());
  }

  // Those that are not among the values stay as they are.
  void set_hypers(int group, const py::dict& values) {
    Hyper hyper = hypers_.at(group);
    const auto names = rule_info().hypers;
    for (const auto& [key, value] : values) {
      const auto name = key.cast<std::string_view>();
      if (const auto own = std::ranges::find(names, name); own != names.end())
        hyper.rule[own - names.begin()] = value.cast<double>();
      else if (name == "weight_decay")
        hyper.weight_decay = value.cast<double>();
      else if (name == "maximize")
        hyper.maximize = value.cast<bool>();
    }
    hyper.lr = lr_at_;
    hypers_.at(group) = hyper;
  }

  // A number on the device that steps read the learning rate of all groups from; None: each group's own.
  void set_lr(const py::object& lr) {
    const Label label{"lr_array", py::str("")};
    Room room;
    forget_producers();
    const View v = lr.is_none() ? View{} : read(lr, label, room);
    if (!lr.is_none() && (v.format != Format::f64 || v.size() != 1))
      throw py::value_error("lr_array: expected one float64, got " + describe(lr));
    if (!lr.is_none()) refuse_other_device(v, label);
    wait_for_producers(device());
    lr_at_ = reinterpret_cast<const double*>(v.data);
    lr_ = lr;
    for (Hyper& hyper : hypers_) hyper.lr = lr_at_;
  }

  // Arrays that follow the parameters as moving averages from the next step on; an empty tuple: none.
  void set_averages(const py::tuple& averages) {
    if (!averages.empty() && averages.size() != slots_.size())
      throw py::value_error("one average for each array");
    std::vector<void*> data;
    for (std::size_t i = 0; i < averages.size(); ++i)
      data.push_back(companion(averages[i], slots_[i], {"average", keys_[i]}));
    data.resize(slots_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].average = data[i];
    averages_ = averages;
    remember_memory();
  }

  // Reads and checks every gradient before the first array changes. Returns whether an update was made, as
  // far as the engine knows.
  bool step(const py::tuple& grads, const Wishes& wishes) {
    if (grads.size() != slots_.size()) throw py::value_error("one gradient for each array, or None");
    std::vector<py::object> held;
    forget_producers();
    tensors_.clear();
    zeroed_ = {}, zeroed_with_gaps_ = false;
    zeroed_at_.clear();
    tiles_ = chunks_ = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (const py::handle g = PyTuple_GET_ITEM(grads.ptr(), i); !g.is_none())
        add(slots_[i], g, i, grads, held, wishes.zero_grads);
      else if (slots_[i].average && slots_[i].n)
        add_still(slots_[i], i);
    }
    if (wishes.zero_grads) refuse_shared(grads);
    void* const stream = current_stream(device());
    Outcome outcome;
    without_gil([&] { outcome = engine_->step(rule_, tensors_, wishes, stream); });
    if (outcome == Outcome::failed) throw std::runtime_error(engine_->failure());
    if (outcome == Outcome::skipped && wishes.nonfinite == Nonfinite::raise) refuse_nonfinite();
    ++calls_;
    return outcome == Outcome::applied;
  }

  const Engine& engine() const { return *engine_; }
  std::int64_t calls() const { return calls_; }

  void set_counts(std::int64_t steps, std::int64_t skipped, const std::vector<std::int64_t>& counts) {
    if (counts.size() != slots_.size()) throw py::value_error("one count for each array");
    engine_->set_counts(steps, skipped, counts);
    calls_ = steps + skipped;
  }

 private:
  const RuleInfo& rule_info() const { return rules()[rule_]; }

  static int index_of(const std::string& name) {
    for (std::size_t i = 0; i < rules().size(); ++i)
      if (rules()[i].name == name) return int(i);
    throw py::value_error("no rule is named " + name);
  }

  Label label(std::size_t argument, std::size_t i) const {
    return {arguments_[argument].c_str(), PyTuple_GET_ITEM(keys_.ptr(), i)};
  }

  // That of the first array which has a place at all.
  int device() const {
    const auto some = std::ranges::find_if(slots_, [](const Slot& slot) { return slot.n > 0; });
    return some == slots_.end() ? 0 : some->p.device;
  }

  void refuse_other_device(const View& v, const Label& label) const {
    if (v.size() && v.device != device())
      throw py::value_error(label.text() + ": expected an array on device " + std::to_string(device()) +
                            ", got one on device " + std::to_string(v.device));
  }

  void fill(Slot& slot, std::size_t i, int group) {
    Room room;
    slot.p = read(params_[i], label(0, i), room);
    slot.extents.assign(slot.p.shape, slot.p.shape + slot.p.dims);
    slot.extents.insert(slot.extents.end(), slot.p.strides, slot.p.strides + slot.p.dims);
    slot.p.shape = slot.extents.data(), slot.p.strides = slot.extents.data() + slot.p.dims;
    slot.c_order = slot.p.dense(true), slot.f_order = slot.p.dense(false);
    slot.n = slot.p.size() * info(slot.p.format).parts;
    refuse_other_device(slot.p, label(0, i));
    slot.group = group;
    for (std::size_t k = 0; k < states_.size(); ++k)
      slot.s[k] = companion(py::tuple(states_[k])[i], slot, label(2 + k, i));
    if (const py::object master = masters_[i]; !master.is_none()) {
      if (!is_short(info(slot.p.format).storage))
        throw py::value_error("only 16-bit parameters have master weights");
      slot.master = companion(master, slot, {"master", keys_[i]});
    }
  }

  // The memory of a state, master or average: dense, in its parameter's order of axes.
  void* companion(py::handle array, const Slot& slot, const Label& label) const {
    Room room;
    const View s = read(array, label, room);
    refuse_other_device(s, label);
    if (!fits(s, slot))
      throw py::value_error(label.text() + ": expected " + wanted(state_format(slot.p.format), slot) +
                            ", writeable and dense in its parameter's order of axes, got " + describe(array));
    return s.data;
  }

  static bool fits(const View& s, const Slot& slot) {
    if (!s.writeable || s.format != state_format(slot.p.format) || !s.same_shape(slot.p)) return false;
    if (slot.n == 0 || (slot.c_order && s.dense(true)) || (slot.f_order && s.dense(false))) return true;
    std::vector<int> order(s.dims);
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int d) { return s.shape[d] == 1; });
    std::ranges::stable_sort(order, std::greater{}, [&](int d) { return std::abs(slot.p.strides[d]); });
    std::int64_t stride = info(s.format).bytes();
    return std::ranges::all_of(order | std::views::reverse, [&](int d) {
      return s.strides[d] == std::exchange(stride, stride * s.shape[d]);
    });
  }

  // What a step writes to, so that no gradient may lie there: calls `visit` with each array and its bounds.
  template <class Visit>
  void visit_memory(const Visit& visit) const {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const Slot& slot = slots_[i];
      const std::int64_t bytes = slot.n * bytes_of(info(state_format(slot.p.format)).storage);
      visit(params_[i], Ranges::of(slot.p));
      for (std::size_t k = 0; k < states_.size(); ++k)
        visit(py::tuple(states_[k])[i], Ranges::of(slot.s[k], bytes));
      if (slot.master) visit(masters_[i], Ranges::of(slot.master, bytes));
      if (slot.average) visit(averages_[i], Ranges::of(slot.average, bytes));
    }
  }

  void remember_memory() {
    memory_ = {};
    for (Slot& slot : slots_) slot.apart = {}, slot.near.clear();
    visit_memory([&](const py::object&, Ranges::Range range) { memory_.add(range); });
    memory_.seal();
  }

  // Whether a gradient whose bounds meet memory of ours has an element in common with it. Where its place is
  // new, all gradients of the step are asked about at once.
  bool shares(const Slot& slot, const View& g, const py::tuple& grads) {
    if (!slot.n) return false;
    Spot spot;
    append_spot(spot, g);
    if (spot != slot.near) judge(grads);
    return slot.shared;
  }

  void judge(const py::tuple& grads) {
    py::list arrays, ours;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const py::object array = grads[i].is_none() ? py::none() : as_array(grads[i]);
      arrays.append(array);
      slots_[i].near.clear();
      if (array.is_none()) continue;
      Room room;
      append_spot(slots_[i].near, read(array, label(1, i), room));
    }
    visit_memory([&](const py::object& array, Ranges::Range) { ours.append(array); });
    const auto found = py::module_::import("gradstep.overlap").attr("shared")(arrays, ours);
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].shared = found[py::int_(i)].cast<bool>();
  }

  void add(Slot& slot, py::handle grad, std::size_t i, const py::tuple& grads, std::vector<py::object>& held,
           bool zero) {
    const Label label = this->label(1, i);
    if (!writeable(PyTuple_GET_ITEM(params_.ptr(), i))) refuse_read_only(this->label(0, i));
    if (py::object array = as_array(grad); !array.is(grad)) {
      held.push_back(array);
      grad = array;
      if (zero) throw py::type_error(label.text() + ": expected an array to set to zero, got a scalar");
    }
    Room room;
    View g = read(grad, label, room);
    refuse_other_device(g, label);
    if (state_format(g.format) != state_format(slot.p.format) || !g.same_shape(slot.p))
      refuse(slot, g, grad, label);
    if (zero && !g.writeable)
      throw py::value_error(label.text() +
                            ": expected a writeable array to set to zero, got a read-only one");
    const Ranges::Range range = Ranges::of(g);
    if (zero) {
      zeroed_.add(range);
      zeroed_with_gaps_ |= !g.dense(true) && !g.dense(false);
      zeroed_at_.push_back(std::int64_t(i));
      append_spot(zeroed_at_, g);
    }
    if (range == slot.apart) {
      // where this gradient lay before
    } else if (!memory_.meets(range)) {
      slot.apart = range;
    } else if (!shares(slot, g, grads)) {
      // between elements of ours
    } else if (zero) {
      throw py::value_error(label.text() +
                            ": expected memory of its own to set to zero, got that of a parameter or state");
    } else {
      wait_for_producers(device());
      held.push_back(copy_of(grad));
      g = read(held.back(), label, room);
    }
    const bool dense = (slot.c_order && g.dense(true)) || (slot.f_order && g.dense(false));
    append(slot, i, &g, dense);
  }

  // An array that has no gradient, but an average that follows it.
  void add_still(Slot& slot, std::size_t i) { append(slot, i, nullptr, slot.c_order || slot.f_order); }

  void append(Slot& slot, std::size_t i, const View* g, bool dense) {
    Tensor t{.p_storage = info(slot.p.format).storage,
             .g_storage = info(g ? g->format : slot.p.format).storage,
             .p = slot.p.data,
             .g = g ? (slot.n ? static_cast<void*>(g->data) : static_cast<void*>(slot.extents.data()))
                    : nullptr,  // an empty array may have no address
             .s = {},
             .master = slot.master,
             .average = slot.average,
             .n = slot.n,
             .slot = std::int64_t(i),
             .step = 0,
             .hyper = &hypers_[slot.group],
             .layout = nullptr,
             .first_tile = tiles_,
             .tiles = pieces(slot.n, tile_elements),
             .first_chunk = chunks_};
    std::ranges::copy(slot.s, t.s);
    if (!dense && slot.n) lay_out(slot, g ? *g : slot.p, t);
    tiles_ += t.tiles;
    chunks_ += t.chunks();
    tensors_.push_back(t);
  }

  // Most gradients lie as they did in the step before.
  static void lay_out(Slot& slot, const View& grad, Tensor& t) {
    const std::span strides(grad.strides, std::size_t(grad.dims));
    if (!slot.layout || slot.laid_format != grad.format || !std::ranges::equal(strides, slot.laid_strides)) {
      const RealAxes p(slot.p), g(grad);
      slot.layout.emplace(p.dims, p.shape, p.strides, g.strides);
      slot.laid_format = grad.format;
      slot.laid_strides.assign(strides.begin(), strides.end());
    }
    if (slot.layout->flat()) return;
    t.layout = &*slot.layout;
    t.tiles = slot.layout->tiles;
  }

  static std::string wanted(Format format, const Slot& slot) {
    py::tuple shape(slot.p.dims);
    for (int d = 0; d < slot.p.dims; ++d) shape[d] = slot.p.shape[d];
    return info(format).name + std::string(" of shape ") + std::string(py::str(shape));
  }

  [[noreturn]] static void refuse(const Slot& slot, const View& g, py::handle grad, const Label& label) {
    const std::string text =
        label.text() + ": expected " + wanted(slot.p.format, slot) + ", got " + describe(grad);
    if (state_format(g.format) != state_format(slot.p.format)) throw py::type_error(text);
    throw py::value_error(text);
  }

  // Gradients that are set to zero may have no element in common.
  void refuse_shared(const py::tuple& grads) {
    if (!zeroed_.seal() && !zeroed_with_gaps_) return;
    if (zeroed_at_ == zeroed_apart_) return;
    py::list arrays, labels;
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (!grads[i].is_none()) arrays.append(grads[i]), labels.append(keys_[i]);
    py::module_::import("gradstep.overlap").attr("refuse_overlap")(arrays, labels, "grads");
    zeroed_apart_ = zeroed_at_;
  }

  [[noreturn]] void refuse_nonfinite() const {
    const auto [slot, nan] = engine_->culprit();
    const std::string text =
        label(1, slot).text() + ": expected finite numbers, got " + (nan ? "NaN" : "infinity");
    PyErr_SetString(PyExc_FloatingPointError, text.c_str());
    throw py::error_already_set();
  }

  int rule_;
  std::vector<std::string> arguments_;
  py::tuple params_, states_, masters_, keys_, averages_;
  std::vector<Slot> slots_;
  std::vector<Hyper> hypers_;
  Ranges zeroed_;  // gradients of the present step, to be set to zero
  bool zeroed_with_gaps_ = false;
  Spot zeroed_at_, zeroed_apart_;  // where they are, and where they last were found to share nothing
  Ranges memory_;
  std::unique_ptr<Engine> engine_;
  py::object lr_ = py::none();
  const double* lr_at_ = nullptr;
  std::vector<Tensor> tensors_;
  std::int64_t tiles_ = 0, chunks_ = 0, calls_ = 0;
};

}  // namespace gradstep
