// A backend as a Python module.
#pragma once
#include <tuple>

#include "bind_lbfgs.h"
#include "bind_rows.h"
#include "plan.h"

namespace gradstep {

inline Nonfinite policy_of(const std::string& name) {
  return name == "skip" ? Nonfinite::skip : name == "raise" ? Nonfinite::raise : Nonfinite::propagate;
}

// Whether the step was applied, and of each array: its number, norm of the gradient, greatest magnitude,
// zeros, NaN, infinities, and the norms of the update and of the parameter.
inline auto health_of(const Plan& plan) {
  using Row =
      std::tuple<std::int64_t, double, double, std::int64_t, std::int64_t, std::int64_t, double, double>;
  const Health found = waited([&] { return plan.engine().health(); });
  std::vector<Row> rows;
  for (const ArrayHealth& a : found.arrays)
    rows.emplace_back(a.slot, a.norm, a.max_abs, a.zeros, a.nans, a.infs, a.update, a.weight);
  return std::pair(found.applied, rows);
}

inline Tally tally_of(const Plan& plan) {
  return waited([&] { return plan.engine().tally(); });
}

inline void bind_plan(py::module_& m) {
  py::class_<Plan>(m, "Plan", py::module_local(),  // each backend has its own
                   "Arrays that step together, their states and their counts.")
      .def(py::init<const std::string&, py::tuple, py::tuple, py::tuple, const std::vector<int>&, py::tuple,
                    std::vector<std::string>>(),
           py::arg("rule"), py::arg("params"), py::arg("states"), py::arg("masters"), py::arg("groups"),
           py::arg("keys"), py::arg("arguments"))
      .def("set_hypers", &Plan::set_hypers, py::arg("group"), py::arg("values"))
      .def("set_lr", &Plan::set_lr, py::arg("lr"))
      .def("set_averages", &Plan::set_averages, py::arg("averages"))
      .def("set_counts", &Plan::set_counts, py::arg("steps"), py::arg("skipped"), py::arg("counts"))
      .def("health", &health_of)
      .def(
          "step", [](Plan& plan, const py::tuple& grads) { return plan.step(grads, {}); }, py::arg("grads"))
      .def(
          "step",
          [](Plan& plan, const py::tuple& grads, double clip_norm, double clip_value, double grad_scale,
             const std::string& nonfinite, bool zero_grads, bool health, double average_decay) {
            return plan.step(grads, {clip_norm, clip_value, grad_scale, policy_of(nonfinite), zero_grads,
                                     health, average_decay});
          },
          py::arg("grads"), py::arg("clip_norm"), py::arg("clip_value"), py::arg("grad_scale"),
          py::arg("nonfinite"), py::arg("zero_grads"), py::arg("health"), py::arg("average_decay"))
      .def_property_readonly("steps", [](const Plan& plan) { return tally_of(plan).steps; })
      .def_property_readonly("skipped", [](const Plan& plan) { return tally_of(plan).skipped; })
      .def_property_readonly("grad_norm", [](const Plan& plan) { return tally_of(plan).grad_norm; })
      .def_property_readonly("counts",
                             [](const Plan& plan) { return waited([&] { return plan.engine().counts(); }); })
      .def_property_readonly("calls", &Plan::calls);
}

inline void bind(py::module_& m) {
  bind_plan(m);
  bind_lbfgs(m);
  bind_rows(m);
  m.def(
      "check",
      [](py::handle array, const char* argument, py::handle key, bool written) {
        const Label label{argument, key};
        Room room;
        forget_producers();
        const View v = read(array, label, room);
        if (written && !v.writeable) refuse_read_only(label);
        wait_for_producers(v.device);
      },
      py::arg("array"), py::arg("argument"), py::arg("key"), py::arg("written") = true,
      "Raises a TypeError or ValueError unless `array` is one that a step can read, and update if "
      "`written`.");
  py::dict states;
  for (const RuleInfo& r : rules())
    states[r.name] = std::vector<std::string>(r.states.begin(), r.states.end());
  m.attr("states") = states;
}

}  // namespace gradstep
