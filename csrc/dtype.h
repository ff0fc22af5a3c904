// Which format a dtype is.
#pragma once
#include <pybind11/complex.h>

#include <atomic>

#include "array.h"

namespace gradstep {

// NumPy's own number of a type; bfloat16 comes from ml_dtypes and has a name only.
inline bool is_format(const py::dtype& dtype, Format format) {
  switch (format) {
    case Format::f32:
      return dtype.num() == py::dtype::num_of<float>();
    case Format::f64:
      return dtype.num() == py::dtype::num_of<double>();
    case Format::c64:
      return dtype.num() == py::dtype::num_of<std::complex<float>>();
    case Format::c128:
      return dtype.num() == py::dtype::num_of<std::complex<double>>();
    case Format::f16:
      return dtype.kind() == 'f' && dtype.itemsize() == 2;
    case Format::bf16:
      return std::string(py::str(dtype)) == "bfloat16";
  }
  return false;
}

inline Format format_of(const py::dtype& dtype, py::handle array, const Label& label) {
  if (dtype.attr("isnative").cast<bool>())
    for (int k = 0; k < int(std::size(formats)); ++k)
      if (is_format(dtype, Format(k))) return Format(k);
  std::string names;
  for (const FormatInfo& format : formats) names += std::string(names.empty() ? "" : ", ") + format.name;
  throw py::type_error(label.text() + ": expected one of " + names + ", got " + describe(array));
}

// NumPy shares one descriptor among most arrays of a type: those met before need no looking into.
inline Format known_format(PyObject* descr, py::handle array, const Label& label) {
  static std::atomic<PyObject*> known[std::size(formats)];
  for (std::size_t k = 0; k < std::size(formats); ++k)
    if (descr == known[k].load(std::memory_order_relaxed)) return Format(k);
  const Format format = format_of(py::reinterpret_borrow<py::dtype>(descr), array, label);
  PyObject* none = nullptr;
  if (known[int(format)].compare_exchange_strong(none, descr)) Py_INCREF(descr);
  return format;
}

}  // namespace gradstep
