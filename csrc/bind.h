// How Python sees a backend: a Plan of arrays that step together. pybind11 lives here and in the module.cpp
// of each backend, nowhere else.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"

namespace gradstep {

namespace py = pybind11;

// Which array is meant, for messages: "grads" and "['W1']".
struct Label {
  const char* argument;
  py::handle key;

  std::string text() const { return argument + std::string(py::str(key)); }
};

// An array as a backend found it. Strides are in bytes.
struct View {
  char* data;
  Format format;
  int dims;
  const std::int64_t *shape, *strides;
  bool writeable;
};

// Each backend reads its own arrays; throws a TypeError or ValueError that names the label.
View read(py::handle array, const Label& label);

// The array itself, or one made of it where it is a scalar of this backend's.
py::object as_array(py::handle x);

inline std::string type_name(py::handle x) {
  const py::handle type = py::type::handle_of(x);
  const std::string module = py::str(type.attr("__module__")), name = py::str(type.attr("__qualname__"));
  return module == "builtins" ? name : module + "." + name;
}

inline std::string describe(py::handle x) {
  if (!py::hasattr(x, "dtype") || !py::hasattr(x, "shape")) return type_name(x);
  return std::string(py::str(x.attr("dtype"))) + " of shape " + std::string(py::str(x.attr("shape")));
}

// Half-open ranges of addresses.
class Ranges {
 public:
  using Range = std::pair<std::uintptr_t, std::uintptr_t>;

  static Range of(const View& v) {
    auto low = reinterpret_cast<std::uintptr_t>(v.data), high = low + format_bytes[int(v.format)];
    for (int d = 0; d < v.dims; ++d) {
      if (v.shape[d] == 0) return {low, low};
      const std::int64_t reach = (v.shape[d] - 1) * v.strides[d];
      (reach < 0 ? low : high) += reach;
    }
    return {low, high};
  }

  void add(Range range) {
    if (range.first < range.second) ranges_.push_back(range);
  }

  // Sorts, and joins ranges that meet.
  void seal() {
    std::ranges::sort(ranges_);
    std::size_t kept = 0;
    for (const Range& range : ranges_) {
      if (kept && range.first <= ranges_[kept - 1].second)
        ranges_[kept - 1].second = std::max(ranges_[kept - 1].second, range.second);
      else
        ranges_[kept++] = range;
    }
    ranges_.resize(kept);
  }

  bool meets(Range range) const {
    auto after = std::ranges::upper_bound(ranges_, range.first, {}, &Range::second);
    return after != ranges_.end() && after->first < range.second;
  }

 private:
  std::vector<Range> ranges_;
};

// What stays the same from step to step of one array.
struct Slot {
  View p;
  std::vector<std::int64_t> extents;  // shape, then strides: what `p` points to
  bool c_order, f_order;
  void* s[max_states] = {};
  std::int64_t n = 1, steps = 0;
  int group;
  Ranges::Range apart{};         // where a gradient was last found to share no memory with us
  std::optional<Layout> layout;  // of the present call, where its gradient makes one necessary
};

inline bool dense(const View& v, bool c_order) {
  std::int64_t stride = format_bytes[int(v.format)];
  for (int k = 0; k < v.dims; ++k) {
    const int d = c_order ? v.dims - 1 - k : k;
    if (v.shape[d] != 1 && v.strides[d] != stride) return false;
    stride *= v.shape[d];
  }
  return true;
}

class Plan {
 public:
  // `states` holds a tuple of arrays for each state of the rule, `groups` the number of each array's group,
  // `keys` what each array is called in messages.
  Plan(const std::string& rule, py::tuple params, py::tuple states, const std::vector<int>& groups,
       py::tuple keys)
      : rule_(index_of(rule)),
        params_(std::move(params)),
        states_(std::move(states)),
        keys_(std::move(keys)) {
    if (groups.size() != params_.size() || keys_.size() != params_.size() ||
        states_.size() != info().states.size())
      throw py::value_error("a plan needs a group and a key for each array, and every state of its rule");
    if (std::ranges::any_of(groups, [](int group) { return group < 0; }))
      throw py::value_error("groups are counted from 0");
    for (const py::handle state : states_)
      if (py::len(state) != params_.size()) throw py::value_error("a plan needs each state of every array");
    slots_.resize(params_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i) fill(slots_[i], i, groups[i]);
    hypers_.resize(groups.empty() ? 0 : 1 + *std::ranges::max_element(groups));
    memory_.seal();
    tensors_.reserve(slots_.size());
  }

  void set_hypers(int group, const py::dict& values) {
    Hyper hyper;
    const auto names = info().hypers;
    bool own_decay = false;
    for (std::size_t k = 0; k < names.size(); ++k) {
      hyper.rule[k] = values[names[k]].cast<double>();
      own_decay |= std::string_view(names[k]) == "weight_decay";
    }
    hyper.weight_decay = own_decay ? 0 : values["weight_decay"].cast<double>();
    hyper.maximize = values["maximize"].cast<bool>();
    hypers_.at(group) = hyper;
  }

  // Reads and checks every gradient before the first array changes.
  void step(const py::tuple& grads) {
    if (grads.size() != slots_.size()) throw py::value_error("one gradient for each array, or None");
    std::vector<py::object> held;
    tensors_.clear();
    tiles_ = 0;
    for (std::size_t i = 0; i < slots_.size(); ++i)
      if (const py::handle g = PyTuple_GET_ITEM(grads.ptr(), i); !g.is_none()) add(slots_[i], g, i, held);
    // Not gil_scoped_release: a daemon thread is ended here when the interpreter exits, by unwinding, and
    // that must not meet a destructor.
    PyThreadState* const thread = PyEval_SaveThread();
    update(rule_, tensors_);
    PyEval_RestoreThread(thread);
    for (std::size_t i = 0; i < slots_.size(); ++i)
      slots_[i].steps += PyTuple_GET_ITEM(grads.ptr(), i) != Py_None;
    ++steps_;
    ++calls_;
  }

  std::int64_t steps() const { return steps_; }
  std::int64_t calls() const { return calls_; }
  std::vector<std::int64_t> counts() const {
    std::vector<std::int64_t> all;
    for (const Slot& slot : slots_) all.push_back(slot.steps);
    return all;
  }

 private:
  const RuleInfo& info() const { return rules()[rule_]; }

  static int index_of(const std::string& name) {
    for (std::size_t i = 0; i < rules().size(); ++i)
      if (rules()[i].name == name) return int(i);
    throw py::value_error("no rule is named " + name);
  }

  void fill(Slot& slot, std::size_t i, int group) {
    slot.p = read(params_[i], {"params", keys_[i]});
    slot.extents.assign(slot.p.shape, slot.p.shape + slot.p.dims);
    slot.extents.insert(slot.extents.end(), slot.p.strides, slot.p.strides + slot.p.dims);
    slot.p.shape = slot.extents.data(), slot.p.strides = slot.extents.data() + slot.p.dims;
    slot.c_order = dense(slot.p, true), slot.f_order = dense(slot.p, false);
    for (int d = 0; d < slot.p.dims; ++d) slot.n *= slot.p.shape[d];
    slot.group = group;
    memory_.add(Ranges::of(slot.p));
    for (std::size_t k = 0; k < states_.size(); ++k) {
      const View s = read(py::tuple(states_[k])[i], {"state", keys_[i]});
      if (!fits(s, slot))
        throw py::value_error(Label{"state", keys_[i]}.text() + ": expected the parameter's like");
      slot.s[k] = s.data;
      memory_.add(Ranges::of(s));
    }
  }

  // A state is dense, in its parameter's order of axes.
  static bool fits(const View& s, const Slot& slot) {
    if (!s.writeable || s.format != slot.p.format ||
        !std::equal(s.shape, s.shape + s.dims, slot.p.shape, slot.p.shape + slot.p.dims))
      return false;
    if (slot.n == 0 || (slot.c_order && dense(s, true)) || (slot.f_order && dense(s, false))) return true;
    std::vector<int> order(s.dims);
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int d) { return s.shape[d] == 1; });
    std::ranges::stable_sort(order, std::greater{}, [&](int d) { return std::abs(slot.p.strides[d]); });
    std::int64_t stride = format_bytes[int(s.format)];
    return std::ranges::all_of(order | std::views::reverse, [&](int d) {
      return s.strides[d] == std::exchange(stride, stride * s.shape[d]);
    });
  }

  void add(Slot& slot, py::handle grad, std::size_t i, std::vector<py::object>& held) {
    const Label label{"grads", keys_[i]};
    if (const py::object array = as_array(grad); !array.is(grad)) {
      held.push_back(array);
      grad = array;
    }
    View g = read(grad, label);
    if (g.format != slot.p.format || g.dims != slot.p.dims ||
        !std::equal(g.shape, g.shape + g.dims, slot.p.shape))
      refuse(slot, grad, label);
    if (slot.n == 0) return;
    if (const Ranges::Range range = Ranges::of(g); range == slot.apart) {
      // where this gradient lay before
    } else if (!memory_.meets(range)) {
      slot.apart = range;
    } else {
      held.push_back(grad.attr("copy")());
      g = read(held.back(), label);
    }
    Tensor t{slot.p.format,  slot.p.data,          g.data,  {},     slot.n,
             slot.steps + 1, &hypers_[slot.group], nullptr, tiles_, 0};
    std::ranges::copy(slot.s, t.s);
    t.tiles = (slot.n + tile_elements - 1) / tile_elements;
    if (!((slot.c_order && dense(g, true)) || (slot.f_order && dense(g, false)))) lay_out(slot, g, t);
    tiles_ += t.tiles;
    tensors_.push_back(t);
  }

  static void lay_out(Slot& slot, const View& g, Tensor& t) {
    std::int64_t p_strides[max_dims], g_strides[max_dims];
    for (int d = 0; d < g.dims; ++d) {
      p_strides[d] = slot.p.strides[d] / format_bytes[int(slot.p.format)];
      g_strides[d] = g.strides[d] / format_bytes[int(g.format)];
    }
    slot.layout.emplace(g.dims, g.shape, p_strides, g_strides);
    if (slot.layout->flat()) return;
    t.layout = &*slot.layout;
    t.tiles = slot.layout->tiles;
  }

  [[noreturn]] static void refuse(const Slot& slot, py::handle grad, const Label& label) {
    py::tuple shape(slot.p.dims);
    for (int d = 0; d < slot.p.dims; ++d) shape[d] = slot.p.shape[d];
    const View g = read(grad, label);
    const std::string text = label.text() + ": expected " + format_names[int(slot.p.format)] + " of shape " +
                             std::string(py::str(shape)) + ", got " + describe(grad);
    if (g.format != slot.p.format) throw py::type_error(text);
    throw py::value_error(text);
  }

  int rule_;
  py::tuple params_, states_, keys_;
  std::vector<Slot> slots_;
  std::vector<Hyper> hypers_;
  Ranges memory_;
  std::vector<Tensor> tensors_;
  std::int64_t tiles_ = 0, steps_ = 0, calls_ = 0;
};

inline void bind(py::module_& m) {
  py::class_<Plan>(m, "Plan", "Arrays that step together, their states and their counts.")
      .def(py::init<const std::string&, py::tuple, py::tuple, const std::vector<int>&, py::tuple>(),
           py::arg("rule"), py::arg("params"), py::arg("states"), py::arg("groups"), py::arg("keys"))
      .def("set_hypers", &Plan::set_hypers, py::arg("group"), py::arg("values"))
      .def("step", &Plan::step, py::arg("grads"))
      .def_property_readonly("steps", &Plan::steps)
      .def_property_readonly("calls", &Plan::calls)
      .def_property_readonly("counts", &Plan::counts);
  m.def(
      "check",
      [](py::handle array, const char* argument, py::handle key) {
        const Label label{argument, key};
        if (!read(array, label).writeable)
          throw py::value_error(label.text() + ": expected a writeable array, got a read-only one");
      },
      py::arg("array"), py::arg("argument"), py::arg("key"),
      "Raises a TypeError or ValueError unless `array` is one that a step can update.");
  py::dict states;
  for (const RuleInfo& r : rules())
    states[r.name] = std::vector<std::string>(r.states.begin(), r.states.end());
  m.attr("states") = states;
}

}  // namespace gradstep
