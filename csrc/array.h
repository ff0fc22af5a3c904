// How a backend's Python module meets arrays: what each backend defines of them, and words about them.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <optional>
#include <string>

#include "view.h"

namespace gradstep {

namespace py = pybind11;

// Which array is meant, for messages: "grads" and "['W1']".
struct Label {
  const char* argument;
  py::handle key;

  std::string text() const { return argument + std::string(py::str(key)); }
};

// Each backend reads its own arrays; throws a TypeError or ValueError that names the label. The view may
// point into the room, or into the array.
View read(py::handle array, const Label& label, Room& room);

// The array itself, or one made of it where it is a scalar of this backend's.
py::object as_array(py::handle x);

// Where the first element of an array lies, of any dtype; None is nowhere.
std::uintptr_t address_of(py::handle array);

// Whether an array that was read before may still be written to.
bool writeable(py::handle array);

// A copy of an array, on its device.
py::object copy_of(py::handle array);

// The stream that the user works on now; it waits for those on which the arrays just read are being made.
// What a call that failed had read is forgotten.
void* current_stream(int device);
void wait_for_producers(int device);
void forget_producers();

// Not gil_scoped_release: a daemon thread is ended here when the interpreter exits, by unwinding, and that
// must not begin in a destructor.
template <class Work>
void without_gil(const Work& work) {
  std::exception_ptr error;
  PyThreadState* const thread = PyEval_SaveThread();
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  PyEval_RestoreThread(thread);
  if (error) std::rethrow_exception(error);
}

// What may wait for a device.
template <class Ask>
auto waited(const Ask& ask) {
  std::optional<decltype(ask())> found;
  without_gil([&] { found.emplace(ask()); });
  return *std::move(found);
}

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

}  // namespace gradstep
