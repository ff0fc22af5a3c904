// The Python module gradstep._cpu.
#include "../bind.h"
#include "../dtype.h"
#include "box.h"
#include "cpu.h"
#include "runs.h"

namespace gradstep {

py::object as_array(py::handle x) {
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t), "sizes are 64-bit");
  if (py::isinstance<py::array>(x) || !py::isinstance(x, py::module_::import("numpy").attr("generic")))
    return py::reinterpret_borrow<py::object>(x);
  return py::module_::import("numpy").attr("asarray")(x);  // np.sum gives a scalar where a 0-d array is meant
}

static bool masked(py::handle x) {
  const py::dict modules = py::module_::import("sys").attr("modules");
  return modules.contains("numpy.ma") && py::isinstance(x, modules["numpy.ma"].attr("MaskedArray"));
}

View read(py::handle x, const Label& label, Room&) {
  if (!py::isinstance<py::array>(x))
    throw py::type_error(label.text() + ": expected a NumPy array, got " + type_name(x));
  const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(x.ptr()));
  if (type != reinterpret_cast<PyObject*>(py::detail::npy_api::get().PyArray_Type_) && masked(x))
    throw py::type_error(label.text() + ": expected a plain NumPy array, got a masked one");
  const auto* a = py::detail::array_proxy(x.ptr());
  const Format format = known_format(a->descr, x, label);
  if (!(a->flags & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
    throw py::value_error(label.text() + ": expected an aligned array, got " + describe(x) + ", not aligned");
  return {a->data,
          format,
          a->nd,
          reinterpret_cast<const std::int64_t*>(a->dimensions),
          reinterpret_cast<const std::int64_t*>(a->strides),
          bool(a->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_)};
}

std::uintptr_t address_of(py::handle array) {
  return array.is_none() ? 0 : reinterpret_cast<std::uintptr_t>(py::detail::array_proxy(array.ptr())->data);
}

bool writeable(py::handle array) {
  return py::detail::array_proxy(array.ptr())->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

py::object copy_of(py::handle array) { return array.attr("copy")(); }

void* current_stream(int) { return nullptr; }
void wait_for_producers(int) {}
void forget_producers() {}

static std::string choices(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

static std::vector<std::string> isas(bool here) {
  std::vector<std::string> names;
  for (const InstructionSet* isa : instruction_sets())
    if (!here || supported(*isa)) names.emplace_back(isa->name);
  return names;
}

static void set_isa(const std::string& name) {
  for (const InstructionSet* isa : instruction_sets())
    if (name == isa->name && supported(*isa)) return set_instruction_set(*isa);
  throw py::value_error("GRADSTEP_ISA: expected one of those this processor has (" + choices(isas(true)) +
                        "), got '" + name + "'");
}

static void set_layer(const std::string& name) {
  if (name != "pool" && name != "openmp")
    throw py::value_error("GRADSTEP_THREADING: expected pool or openmp, got '" + name + "'");
  set_threading(name == "openmp" ? Threading::openmp : Threading::pool);
}

// `lower` and `upper` are vectors of double like the others; the function gets x in this precision.
static std::unique_ptr<LbfgsArrays> lbfgs_within(py::object lower, py::object upper, py::object x,
                                                 py::object trial, py::object gradient, py::object rows,
                                                 int capacity, int max_line_search, double precision) {
  const auto n = std::int64_t(py::len(x));
  dense(x, "x", Format::f64, n);
  const auto side = [n](py::handle array) {
    return std::span(reinterpret_cast<const double*>(dense(array, "bounds", Format::f64, n).data),
                     std::size_t(n));
  };
  return std::make_unique<LbfgsArrays>(std::move(x), std::move(trial), std::move(gradient), std::move(rows),
                                       capacity, max_line_search,
                                       make_box(side(lower), side(upper), precision));
}

static void bind_cpu(py::module_& m) {
  m.def("lbfgs_within", &lbfgs_within, py::arg("lower"), py::arg("upper"), py::arg("x"), py::arg("trial"),
        py::arg("gradient"), py::arg("rows"), py::arg("maxcor"), py::arg("maxls"), py::arg("precision"),
        "An Lbfgs of float64 vectors that keeps x within bounds.");
  m.def("isas_built", [] { return isas(false); }, "The instruction sets compiled in, the widest first.");
  m.def("isas_supported", [] { return isas(true); }, "Those of them that this processor has.");
  m.def("isa", [] { return instruction_set().name; }, "The one in use.");
  m.def("set_isa", &set_isa, py::arg("name"));
  m.def(
      "threading", [] { return threading() == Threading::openmp ? "openmp" : "pool"; },
      "The thread layer in use.");
  m.def("set_threading", &set_layer, py::arg("name"));
  m.def("num_threads", &num_threads, "How many threads a large step would use now.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("set_granted_threads", &set_granted_threads, py::arg("n"));
  m.def(
      "set_grain",
      [](std::int64_t part_tiles, std::int64_t thread_elements) {
        grain.part_tiles = part_tiles, grain.thread_elements = thread_elements;
      },
      py::arg("part_tiles"), py::arg("thread_elements"),
      "How many tiles a thread claims at once, and how many elements are worth a thread.");
  py::dict flags;
  flags["common"] = GRADSTEP_FLAGS;
#ifdef GRADSTEP_FLAGS_AVX2
  flags["avx2"] = GRADSTEP_FLAGS_AVX2;
  flags["avx512"] = GRADSTEP_FLAGS_AVX512;
#endif
  flags["baseline"] = "";
  m.attr("flags") = flags;
  m.attr("compiler") = GRADSTEP_COMPILER;
  m.attr("version") = GRADSTEP_VERSION;
  m.attr("tile_elements") = py::int_(tile_elements);
}

}  // namespace gradstep

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  m.doc() = "gradstep on the CPU.";
  gradstep::bind(m);
  gradstep::bind_cpu(m);
}
