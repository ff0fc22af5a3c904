// How Python sees a backend: a Plan of arrays that step together. pybind11 lives here and in the module.cpp
// of each backend, nowhere else.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backend.h"
#include "view.h"

namespace gradstep {

namespace py = pybind11;

// Which array is meant, for messages: "grads" and "['W1']".
struct Label {
  const char* argument;
  py::handle key;

  std::string text() const { return argument + std::string(py::str(key)); }
};

// Each backend reads its own arrays; throws a TypeError or ValueError that names the label.
View read(py::handle array, const Label& label);

// The array itself, or one made of it where it is a scalar of this backend's.
py::object as_array(py::handle x);

// Whether an array that was read before may still be written to.
bool writeable(py::handle array);

[[noreturn]] inline void refuse_read_only(const Label& label) {
  throw py::value_error(label.text() + ": expected a writeable array, got a read-only one");
}

inline std::string type_name(py::handle x) {
  const py::handle type = py::type::handle_of(x);
  const std::string module = py::str(type.attr("__module__")), name = py::str(type.attr("__qualname__"));
  return module == "builtins" ? name : module + "." + name;
}

inline std::string describe(py::handle x) {
  if (!py::hasattr(x, "dtype") || !py::hasattr(x, "shape")) return type_name(x);
  return std::string(py::str(x.attr("dtype"))) + " of shape " + std::string(py::str(x.attr("shape")));
}

// What stays the same from step to step of one array.
struct Slot {
  View p;
  std::vector<std::int64_t> extents;  // shape, then strides: what `p` points to
  bool c_order, f_order;
  void* s[max_states] = {};
  void *master = nullptr, *average = nullptr;
  std::int64_t n, steps = 0;  // `n` counts real numbers
  int group;
  Ranges::Range apart{};         // where a gradient was last found to share no memory with us
  std::optional<Layout> layout;  // of the present call, where its gradient makes one necessary
};

enum class Nonfinite { propagate, skip, raise };

// What the user asks of a step, beside the step.
struct Wishes {
  double clip_norm = -1;  // below 0: no norm is taken
  double clip_value = INFINITY, grad_scale = 1;
  Nonfinite nonfinite = Nonfinite::propagate;
  bool zero_grads = false, health = false;
  double average_decay = 0;

  bool surveys() const { return clip_norm >= 0 || nonfinite != Nonfinite::propagate || health; }
};

// The square root of a sum of squares: `root` times a power of two that keeps squares in range.
struct Norm {
  double root = 0, unit = 1;

  double value() const { return root * unit; }
};

// Number of the array, norm of its gradient, greatest magnitude, zeros, NaN, infinities, and the norms of the
// update and of the parameter.
using Health =
    std::tuple<std::size_t, double, double, std::int64_t, std::int64_t, std::int64_t, double, double>;

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
    memory_.seal();
    tensors_.reserve(slots_.size());
    active_.reserve(slots_.size());
  }

  void set_hypers(int group, const py::dict& values) {
    Hyper hyper;
    const auto names = rule_info().hypers;
    bool own_decay = false;
    for (std::size_t k = 0; k < names.size(); ++k) {
      hyper.rule[k] = values[names[k]].cast<double>();
      own_decay |= std::string_view(names[k]) == "weight_decay";
    }
    hyper.weight_decay = own_decay ? 0 : values["weight_decay"].cast<double>();
    hyper.maximize = values["maximize"].cast<bool>();
    hypers_.at(group) = hyper;
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

  // Reads and checks every gradient before the first array changes. Returns whether an update was made.
  bool step(const py::tuple& grads, const Wishes& wishes) {
    if (grads.size() != slots_.size()) throw py::value_error("one gradient for each array, or None");
    std::vector<py::object> held;
    tensors_.clear();
    active_.clear();
    tiles_ = chunks_ = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (const py::handle g = PyTuple_GET_ITEM(grads.ptr(), i); !g.is_none())
        add(slots_[i], g, i, held, wishes.zero_grads);
    if (wishes.zero_grads) refuse_shared(grads);
    const bool apply = wishes.surveys() ? survey_and_update(wishes) : update_only(wishes);
    if (!apply && wishes.nonfinite == Nonfinite::raise) refuse_nonfinite();
    if (!apply && wishes.zero_grads)
      for (const py::handle g : grads)
        if (!g.is_none()) g.attr("fill")(0);
    for (std::size_t i = 0; apply && i < slots_.size(); ++i)
      slots_[i].steps += PyTuple_GET_ITEM(grads.ptr(), i) != Py_None;
    steps_ += apply;
    skipped_ += !apply;
    ++calls_;
    return apply;
  }

  std::int64_t steps() const { return steps_; }
  std::int64_t skipped() const { return skipped_; }
  std::int64_t calls() const { return calls_; }
  std::optional<double> grad_norm() const { return grad_norm_; }
  std::vector<std::int64_t> counts() const {
    std::vector<std::int64_t> all;
    for (const Slot& slot : slots_) all.push_back(slot.steps);
    return all;
  }

  void set_counts(std::int64_t steps, std::int64_t skipped, const std::vector<std::int64_t>& counts) {
    if (counts.size() != slots_.size()) throw py::value_error("one count for each array");
    steps_ = steps, skipped_ = skipped, calls_ = steps + skipped;
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].steps = counts[i];
  }

  // What the last step with health found of each array that had a gradient.
  std::vector<Health> health() const { return health_; }

 private:
  const RuleInfo& rule_info() const { return rules()[rule_]; }

  static int index_of(const std::string& name) {
    for (std::size_t i = 0; i < rules().size(); ++i)
      if (rules()[i].name == name) return int(i);
    throw py::value_error("no rule is named " + name);
  }

  Label label(std::size_t argument, std::size_t i) const { return {arguments_[argument].c_str(), keys_[i]}; }

  void fill(Slot& slot, std::size_t i, int group) {
    slot.p = read(params_[i], label(0, i));
    slot.extents.assign(slot.p.shape, slot.p.shape + slot.p.dims);
    slot.extents.insert(slot.extents.end(), slot.p.strides, slot.p.strides + slot.p.dims);
    slot.p.shape = slot.extents.data(), slot.p.strides = slot.extents.data() + slot.p.dims;
    slot.c_order = slot.p.dense(true), slot.f_order = slot.p.dense(false);
    slot.n = slot.p.size() * info(slot.p.format).parts;
    slot.group = group;
    memory_.add(Ranges::of(slot.p));
    for (std::size_t k = 0; k < states_.size(); ++k)
      slot.s[k] = companion(py::tuple(states_[k])[i], slot, label(2 + k, i));
    if (const py::object master = masters_[i]; !master.is_none()) {
      if (!is_short(info(slot.p.format).storage))
        throw py::value_error("only 16-bit parameters have master weights");
      slot.master = companion(master, slot, {"master", keys_[i]});
    }
  }

  // The memory of a state, master or average: dense, in its parameter's order of axes.
  void* companion(py::handle array, const Slot& slot, const Label& label) {
    const View s = read(array, label);
    if (!fits(s, slot))
      throw py::value_error(label.text() + ": expected " + wanted(state_format(slot.p.format), slot) +
                            ", writeable and dense in its parameter's order of axes, got " + describe(array));
    memory_.add(Ranges::of(s));
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

  void remember_memory() {
    memory_.seal();
    for (Slot& slot : slots_) slot.apart = {};
  }

  void add(Slot& slot, py::handle grad, std::size_t i, std::vector<py::object>& held, bool zero) {
    const Label label = this->label(1, i);
    if (!writeable(params_[i])) refuse_read_only(this->label(0, i));
    if (const py::object array = as_array(grad); !array.is(grad)) {
      held.push_back(array);
      grad = array;
      if (zero) throw py::type_error(label.text() + ": expected an array to set to zero, got a scalar");
    }
    View g = read(grad, label);
    if (state_format(g.format) != state_format(slot.p.format) || !g.same_shape(slot.p))
      refuse(slot, grad, label);
    if (zero && !g.writeable)
      throw py::value_error(label.text() +
                            ": expected a writeable array to set to zero, got a read-only one");
    if (slot.n == 0) return;
    if (const Ranges::Range range = Ranges::of(g); range == slot.apart) {
      // where this gradient lay before
    } else if (!memory_.meets(range)) {
      slot.apart = range;
    } else if (zero) {
      throw py::value_error(label.text() +
                            ": expected memory of its own to set to zero, got that of a parameter or state");
    } else {
      held.push_back(grad.attr("copy")());
      g = read(held.back(), label);
    }
    Tensor t{.p_storage = info(slot.p.format).storage,
             .g_storage = info(g.format).storage,
             .p = slot.p.data,
             .g = g.data,
             .s = {},
             .master = slot.master,
             .average = slot.average,
             .n = slot.n,
             .step = slot.steps + 1,
             .hyper = &hypers_[slot.group],
             .layout = nullptr,
             .first_tile = tiles_,
             .tiles = (slot.n + tile_elements - 1) / tile_elements,
             .first_chunk = chunks_};
    std::ranges::copy(slot.s, t.s);
    if (!((slot.c_order && g.dense(true)) || (slot.f_order && g.dense(false)))) lay_out(slot, g, t);
    tiles_ += t.tiles;
    chunks_ += t.chunks();
    tensors_.push_back(t);
    active_.push_back(i);
  }

  static void lay_out(Slot& slot, const View& grad, Tensor& t) {
    const RealAxes p(slot.p), g(grad);
    slot.layout.emplace(p.dims, p.shape, p.strides, g.strides);
    if (slot.layout->flat()) return;
    t.layout = &*slot.layout;
    t.tiles = slot.layout->tiles;
  }

  static std::string wanted(Format format, const Slot& slot) {
    py::tuple shape(slot.p.dims);
    for (int d = 0; d < slot.p.dims; ++d) shape[d] = slot.p.shape[d];
    return info(format).name + std::string(" of shape ") + std::string(py::str(shape));
  }

  [[noreturn]] static void refuse(const Slot& slot, py::handle grad, const Label& label) {
    const View g = read(grad, label);
    const std::string text =
        label.text() + ": expected " + wanted(slot.p.format, slot) + ", got " + describe(grad);
    if (state_format(g.format) != state_format(slot.p.format)) throw py::type_error(text);
    throw py::value_error(text);
  }

  // Gradients that are set to zero may have no element in common.
  void refuse_shared(const py::tuple& grads) {
    Ranges ranges;
    bool suspect = false;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const py::handle grad = PyTuple_GET_ITEM(grads.ptr(), i);
      if (grad.is_none()) continue;
      const View g = read(grad, label(1, i));
      suspect |= !g.dense(true) && !g.dense(false);
      ranges.add(Ranges::of(g));
    }
    if (!ranges.seal() && !suspect) return;
    py::list arrays, labels;
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (!grads[i].is_none()) arrays.append(grads[i]), labels.append(keys_[i]);
    py::module_::import("gradstep.overlap").attr("refuse_overlap")(arrays, labels, "grads");
  }

  // Not gil_scoped_release: a daemon thread is ended here when the interpreter exits, by unwinding, and that
  // must not meet a destructor. So nothing in `work` may throw.
  template <class Work>
  static void without_gil(const Work& work) {
    PyThreadState* const thread = PyEval_SaveThread();
    work();
    PyEval_RestoreThread(thread);
  }

  bool update_only(const Wishes& wishes) {
    const Extras extras = extras_of(wishes, 1 / wishes.grad_scale);
    without_gil([&] { update(rule_, tensors_, extras); });
    return true;
  }

  static Extras extras_of(const Wishes& wishes, double scale) {
    return {scale, wishes.clip_value, wishes.average_decay, wishes.zero_grads, nullptr};
  }

  bool survey_and_update(const Wishes& wishes) {
    survey_.resize(chunks_);
    terms_.resize(chunks_);
    changes_.resize(wishes.health ? tiles_ : 0);
    Norm norm;
    bool apply = true;
    without_gil([&] {
      survey(tensors_, 1, wishes.health, survey_.data());
      const bool finite = std::ranges::all_of(survey_, &Chunk::finite);
      norm = norm_of(finite);
      apply = finite || wishes.nonfinite == Nonfinite::propagate;
      if (!apply) return;
      Extras extras = extras_of(wishes, factor(norm, wishes));
      if (wishes.health) extras.changes = changes_.data();
      update(rule_, tensors_, extras);
    });
    grad_norm_ = norm.value() / wishes.grad_scale;
    if (wishes.health) examine(norm, wishes.grad_scale, apply);
    return apply;
  }

  // Squares of doubles may leave the range of doubles; then all is done again in another unit.
  Norm norm_of(bool finite) {
    Norm norm{sum_sq(0, chunks_), 1};
    const bool doubles =
        std::ranges::any_of(tensors_, [](const Tensor& t) { return is_double(t.g_storage); });
    if (doubles && finite && !(norm.root > 1e-280 && norm.root < 1e280)) {
      norm.unit = norm.root < 1 ? 0x1p-600 : 0x1p600;
      survey(tensors_, 1 / norm.unit, false, survey_.data());
      norm.root = sum_sq(0, chunks_);
    }
    norm.root = std::sqrt(norm.root);
    return norm;
  }

  double sum_sq(std::int64_t first, std::int64_t chunks) {
    for (std::int64_t c = 0; c < chunks; ++c) terms_[c] = survey_[first + c].sum_sq;
    return sum({terms_.data(), std::size_t(chunks)});
  }

  // What gradients are multiplied by: division by grad_scale and clipping by norm in one.
  static double factor(const Norm& norm, const Wishes& wishes) {
    if (wishes.clip_norm < 0 || wishes.clip_norm == INFINITY) return 1 / wishes.grad_scale;
    const double taken = norm.value() / wishes.grad_scale;
    const double ratio = taken == INFINITY && norm.root < INFINITY
                             ? wishes.clip_norm / norm.unit / norm.root * wishes.grad_scale
                             : wishes.clip_norm / (taken + 1e-6);
    return (ratio > 1 ? 1 : ratio) / wishes.grad_scale;
  }

  void examine(const Norm& norm, double grad_scale, bool applied) {
    health_.clear();
    for (std::size_t k = 0; k < tensors_.size(); ++k) {
      const Tensor& t = tensors_[k];
      double max_abs = 0;
      std::int64_t zeros = 0, nans = 0, infs = 0;
      for (const Chunk& chunk : std::span(survey_).subspan(t.first_chunk, t.chunks())) {
        if (!std::isnan(max_abs) && !(chunk.max_abs <= max_abs)) max_abs = chunk.max_abs;
        zeros += chunk.zeros, nans += chunk.nans, infs += chunk.infs;
      }
      double update = 0, weight = 0;
      for (std::int64_t tile = t.first_tile; applied && tile < t.first_tile + t.tiles; ++tile)
        update += changes_[tile].update_sq, weight += changes_[tile].p_sq;
      const double gradient = std::sqrt(sum_sq(t.first_chunk, t.chunks())) * norm.unit;
      health_.emplace_back(active_[k], gradient / grad_scale, max_abs / grad_scale, zeros, nans, infs,
                           std::sqrt(update), std::sqrt(weight));
    }
  }

  [[noreturn]] void refuse_nonfinite() const {
    const auto bad = std::ranges::find(survey_, false, &Chunk::finite);
    const auto owner =
        std::ranges::upper_bound(tensors_, bad - survey_.begin(), {}, &Tensor::first_chunk) - 1;
    const std::string text = label(1, active_[owner - tensors_.begin()]).text() +
                             ": expected finite numbers, got " + (bad->nans ? "NaN" : "infinity");
    PyErr_SetString(PyExc_FloatingPointError, text.c_str());
    throw py::error_already_set();
  }

  int rule_;
  std::vector<std::string> arguments_;
  py::tuple params_, states_, masters_, keys_, averages_;
  std::vector<Slot> slots_;
  std::vector<Hyper> hypers_;
  Ranges memory_;
  std::vector<Tensor> tensors_;
  std::vector<std::size_t> active_;  // the slot of each tensor
  std::vector<Chunk> survey_;
  std::vector<double> terms_;
  std::vector<Change> changes_;
  std::vector<Health> health_;
  std::int64_t tiles_ = 0, chunks_ = 0, steps_ = 0, skipped_ = 0, calls_ = 0;
  std::optional<double> grad_norm_;
};

inline void bind(py::module_& m) {
  py::class_<Plan>(m, "Plan", "Arrays that step together, their states and their counts.")
      .def(py::init<const std::string&, py::tuple, py::tuple, py::tuple, const std::vector<int>&, py::tuple,
                    std::vector<std::string>>(),
           py::arg("rule"), py::arg("params"), py::arg("states"), py::arg("masters"), py::arg("groups"),
           py::arg("keys"), py::arg("arguments"))
      .def("set_hypers", &Plan::set_hypers, py::arg("group"), py::arg("values"))
      .def("set_averages", &Plan::set_averages, py::arg("averages"))
      .def("set_counts", &Plan::set_counts, py::arg("steps"), py::arg("skipped"), py::arg("counts"))
      .def("health", &Plan::health)
      .def(
          "step", [](Plan& plan, const py::tuple& grads) { return plan.step(grads, {}); }, py::arg("grads"))
      .def(
          "step",
          [](Plan& plan, const py::tuple& grads, double clip_norm, double clip_value, double grad_scale,
             const std::string& nonfinite, bool zero_grads, bool health, double average_decay) {
            const Nonfinite policy = nonfinite == "skip"    ? Nonfinite::skip
                                     : nonfinite == "raise" ? Nonfinite::raise
                                                            : Nonfinite::propagate;
            return plan.step(grads,
                             {clip_norm, clip_value, grad_scale, policy, zero_grads, health, average_decay});
          },
          py::arg("grads"), py::arg("clip_norm"), py::arg("clip_value"), py::arg("grad_scale"),
          py::arg("nonfinite"), py::arg("zero_grads"), py::arg("health"), py::arg("average_decay"))
      .def_property_readonly("steps", &Plan::steps)
      .def_property_readonly("skipped", &Plan::skipped)
      .def_property_readonly("grad_norm", &Plan::grad_norm)
      .def_property_readonly("calls", &Plan::calls)
      .def_property_readonly("counts", &Plan::counts);
  m.def(
      "check",
      [](py::handle array, const char* argument, py::handle key) {
        const Label label{argument, key};
        if (!read(array, label).writeable) refuse_read_only(label);
      },
      py::arg("array"), py::arg("argument"), py::arg("key"),
      "Raises a TypeError or ValueError unless `array` is one that a step can update.");
  py::dict states;
  for (const RuleInfo& r : rules())
    states[r.name] = std::vector<std::string>(r.states.begin(), r.states.end());
  m.attr("states") = states;
}

}  // namespace gradstep
