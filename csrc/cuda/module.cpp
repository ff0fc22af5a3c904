// The Python module gradstep._cuda.
#include <cuda_runtime.h>

#include "../bind.h"
#include "../dtype.h"
#include "memory.h"

namespace gradstep {
namespace {

py::object attribute(py::handle x, const char* name) {
  return py::reinterpret_steal<py::object>(PyObject_GetAttrString(x.ptr(), name));
}

// The type cupy.ndarray once CuPy was imported; a handle of nothing before.
py::handle cupy_array() {
  static PyObject* type = nullptr;
  if (!type) {
    const py::dict modules = py::module_::import("sys").attr("modules");
    if (modules.contains("cupy")) type = py::object(modules["cupy"].attr("ndarray")).release().ptr();
  }
  return type;
}

bool is_cupy(py::handle x) {
  const py::handle type = cupy_array();
  return type && (py::type::handle_of(x).is(type) || py::isinstance(x, type));
}

void fill_strides(View& v, Room& room) {
  auto stride =
      std::uint64_t(info(v.format).bytes());  // of shapes that no memory has it wraps, and they are refused
  for (int d = v.dims; d-- > 0; stride *= std::uint64_t(v.shape[d])) room.strides[d] = std::int64_t(stride);
}

std::int64_t fill(const py::tuple& from, std::int64_t* to) {
  const auto n = std::int64_t(from.size());
  for (std::int64_t d = 0; d < n; ++d) to[d] = PyLong_AsLongLong(PyTuple_GET_ITEM(from.ptr(), d));
  return n;
}

// Streams on which arrays of the present call are being made.
thread_local std::vector<cudaStream_t> producers;

// Attributes of cupy.ndarray are several times faster than the dict of __cuda_array_interface__.
View read_cupy(py::handle x, const Label& label, Room& room) {
  static PyObject* const names[] = {
      PyUnicode_InternFromString("data"),         PyUnicode_InternFromString("ptr"),
      PyUnicode_InternFromString("shape"),        PyUnicode_InternFromString("dtype"),
      PyUnicode_InternFromString("strides"),      PyUnicode_InternFromString("device_id"),
      PyUnicode_InternFromString("_c_contiguous")};
  const auto get = [](py::handle from, int name) {
    return py::reinterpret_steal<py::object>(PyObject_GetAttr(from.ptr(), names[name]));
  };
  const auto need = [&](py::handle from, int name) {
    const py::object found = get(from, name);
    if (found) return found;
    const py::error_already_set error;
    if (!error.matches(PyExc_Exception)) throw error;
    throw py::type_error(label.text() + ": expected a CUDA array, got a broken " + type_name(x));
  };
  const py::object data = need(x, 0), dtype = need(x, 3);
  View v{};
  v.format = known_format(dtype.ptr(), x, label);
  v.data = static_cast<char*>(PyLong_AsVoidPtr(need(data, 1).ptr()));
  v.dims = int(fill(need(x, 2), room.shape));
  v.shape = room.shape, v.strides = room.strides;
  v.writeable = true;
  v.device = int(PyLong_AsLong(need(data, 5).ptr()));
  const py::object contiguous = get(x, 6);  // not public: only where it is
  if (!contiguous) PyErr_Clear();
  if (contiguous && contiguous.is(py::handle(Py_True)))
    fill_strides(v, room);
  else
    fill(need(x, 4), room.strides);
  if (PyErr_Occurred()) throw py::error_already_set();
  return v;
}

Format format_in(py::handle x, const py::dict& interface, const Label& label) {
  if (!py::isinstance<py::str>(interface["typestr"])) throw py::cast_error("its typestr is no text");
  const py::object own = attribute(x, "dtype");
  if (!own) PyErr_Clear();
  // bfloat16 has no type string of its own
  if (own && py::isinstance<py::dtype>(own)) return known_format(own.ptr(), x, label);
  if (own && std::string(py::str(own)) == "torch.bfloat16") return Format::bf16;
  return known_format(py::dtype::from_args(interface["typestr"]).ptr(), x, label);
}

py::dict interface_of(py::handle x, const Label& label) {
  const py::object found = attribute(x, "__cuda_array_interface__");
  if (found && py::isinstance<py::dict>(found)) return found;
  std::string why;
  if (!found) {  // told before anything else asks Python
    const py::error_already_set error;
    if (!error.matches(PyExc_Exception)) throw error;  // Ctrl-C
    if (!error.matches(PyExc_AttributeError)) why = std::string(" (") + error.what() + ")";
  }
  throw py::type_error(label.text() + ": expected a CUDA array, got " + type_name(x) + why);
}

inline constexpr std::int64_t most_bytes = std::int64_t(1) << 56;  // more than any machine addresses

// Whether all elements can be counted, and reached.
bool countable(const View& v) {
  std::int64_t bytes = info(v.format).bytes(), reach = 0;
  for (int d = 0; d < v.dims; ++d) {
    if (v.shape[d] < 0 || __builtin_mul_overflow(bytes, std::max<std::int64_t>(v.shape[d], 1), &bytes))
      return false;
    if (v.shape[d] > 1 && (__builtin_mul_overflow(v.shape[d] - 1, v.strides[d], &reach) ||
                           reach > most_bytes || reach < -most_bytes))
      return false;
  }
  return true;
}

View read_entries(py::handle x, const py::dict& interface, const Label& label, Room& room) {
  const py::tuple data = interface["data"], shape = interface["shape"];
  View v{};
  v.format = format_in(x, interface, label);
  v.data = reinterpret_cast<char*>(PyLong_AsUnsignedLongLong(py::object(data[0]).ptr()));
  if (PyErr_Occurred()) throw py::error_already_set();
  v.writeable = !py::object(data[1]).cast<bool>();
  if (shape.size() >= max_dims) throw py::value_error(label.text() + ": expected at most 64 dimensions");
  v.dims = int(fill(shape, room.shape));
  v.shape = room.shape, v.strides = room.strides;
  const bool strided = interface.contains("strides") && !interface["strides"].is_none();
  const py::tuple strides = strided ? py::tuple(interface["strides"]) : py::tuple();
  if (!strided)
    fill_strides(v, room);
  else if (strides.size() == shape.size())
    fill(strides, room.strides);
  if (PyErr_Occurred()) throw py::error_already_set();
  if ((strided && strides.size() != shape.size()) || !countable(v))
    throw py::type_error(label.text() + ": expected a CUDA array, got " + type_name(x) +
                         " with a broken shape");
  if (!v.data && v.size()) throw py::cast_error("it has elements and no memory");
  if (interface.contains("stream") && !interface["stream"].is_none())
    producers.push_back(reinterpret_cast<cudaStream_t>(interface["stream"].cast<std::uintptr_t>()));
  return v;
}

View read_interface(py::handle x, const Label& label, Room& room) {
  const py::dict interface = interface_of(x, label);
  if (interface.contains("mask") && !interface["mask"].is_none())
    throw py::type_error(label.text() + ": expected a plain CUDA array, got a masked one");
  const auto broken = [&](const char* why) {
    return py::type_error(label.text() + ": expected a CUDA array, got " + type_name(x) +
                          " with a broken interface (" + why + ")");
  };
  View v;
  try {
    v = read_entries(x, interface, label, room);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw broken(error.what());
  } catch (const py::cast_error& error) {
    throw broken(error.what());
  }
  if (v.data) {
    cudaPointerAttributes attributes{};
    check(cudaPointerGetAttributes(&attributes, v.data));
    v.device = attributes.device;
    if (v.device < 0)
      throw py::type_error(label.text() + ": expected memory of a CUDA device, got some of none");
  }
  return v;
}

// What strides are not whole numbers of elements no kernel here can step by.
void refuse_unaligned(const View& v, const Label& label) {
  const std::int64_t bytes = bytes_of(info(v.format).storage);
  bool aligned = reinterpret_cast<std::uintptr_t>(v.data) % std::uintptr_t(bytes) == 0;
  for (int d = 0; d < v.dims; ++d) aligned &= v.shape[d] < 2 || v.strides[d] % bytes == 0;
  if (!aligned) throw py::value_error(label.text() + ": expected an aligned array, got one that is not");
}

}  // namespace

py::object as_array(py::handle x) { return py::reinterpret_borrow<py::object>(x); }

View read(py::handle x, const Label& label, Room& room) {
  const View v = is_cupy(x) ? read_cupy(x, label, room) : read_interface(x, label, room);
  refuse_unaligned(v, label);
  return v;
}

std::uintptr_t address_of(py::handle array) {
  return array.is_none() ? 0 : array.attr("data").attr("ptr").cast<std::uintptr_t>();
}

bool writeable(py::handle) { return true; }  // parameters are CuPy arrays, which are never read-only

py::object copy_of(py::handle array) { return py::module_::import("gradstep.device").attr("copy_of")(array); }

void forget_producers() { producers.clear(); }

void wait_for_producers(int device) {
  if (!producers.empty()) current_stream(device);
}

// Makes it wait for the producers of the arrays just read.
void* current_stream(int device) {
  const auto number =
      py::module_::import("gradstep.device").attr("current_stream")(device).cast<std::uintptr_t>();
  const auto stream = reinterpret_cast<cudaStream_t>(number);
  if (producers.empty()) return stream;
  std::vector<cudaStream_t> others;
  others.swap(producers);
  std::ranges::sort(others);
  const auto repeated = std::ranges::unique(others);
  others.erase(repeated.begin(), repeated.end());
  const OnDevice there(device);  // 1 and 2 are its default streams
  for (const cudaStream_t other : others) {
    if (other == stream || (!stream && other == reinterpret_cast<cudaStream_t>(1))) continue;
    cudaEvent_t event;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    check(cudaEventRecord(event, other));
    check(cudaStreamWaitEvent(stream, event, 0));
    check(cudaEventDestroy(event));
  }
  return stream;
}

namespace {

// The number of devices; throws with the reason where there is no driver or none.
int device_count() {
  int count = 0;
  check(cudaGetDeviceCount(&count));
  return count;
}

std::vector<std::string> devices() {
  std::vector<std::string> names;
  for (int d = 0; d < device_count(); ++d) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, d));
    names.push_back(properties.name + std::string(" (") + std::to_string(properties.major) + "." +
                    std::to_string(properties.minor) + ")");
  }
  return names;
}

int driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version));
  return version;
}

int device_of(std::uintptr_t address) {
  if (!address) return 0;
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, reinterpret_cast<void*>(address)));
  return attributes.device;
}

void clear(std::uintptr_t address, std::size_t bytes, std::uintptr_t stream) {
  const OnDevice there(device_of(address));
  check(cudaMemsetAsync(reinterpret_cast<void*>(address), 0, bytes, reinterpret_cast<cudaStream_t>(stream)));
}

void copy(std::uintptr_t to, std::uintptr_t from, std::size_t bytes, std::uintptr_t stream) {
  const OnDevice there(device_of(to));
  check(cudaMemcpyAsync(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes,
                        cudaMemcpyDeviceToDevice, reinterpret_cast<cudaStream_t>(stream)));
}

void wait_for(std::uintptr_t stream, int device) {
  const OnDevice there(device);  // 1 and 2 are its default streams
  without_gil([&] { check(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(stream))); });
}

// Between memory of the device and a contiguous NumPy array; waits.
void copy_to_host(std::uintptr_t address, const py::buffer& host) {
  const py::buffer_info to = host.request(true);
  const OnDevice there(device_of(address));
  check(cudaDeviceSynchronize());
  check(cudaMemcpy(to.ptr, reinterpret_cast<void*>(address), std::size_t(to.size * to.itemsize),
                   cudaMemcpyDeviceToHost));
}

void copy_to_device(std::uintptr_t address, const py::buffer& host) {
  const py::buffer_info from = host.request();
  const OnDevice there(device_of(address));
  check(cudaDeviceSynchronize());
  check(cudaMemcpy(reinterpret_cast<void*>(address), from.ptr, std::size_t(from.size * from.itemsize),
                   cudaMemcpyHostToDevice));
  check(cudaDeviceSynchronize());  // a copy from pageable memory may return before it is done
}

void bind_cuda(py::module_& m) {
  m.def("device_count", &device_count);
  m.def("devices", &devices, "Name and compute capability of each.");
  m.def("driver_version", &driver_version,
        "The CUDA version that the driver goes up to; 0 if there is none.");
  m.def("current_device", [] {
    int device = 0;
    check(cudaGetDevice(&device));
    return device;
  });
  m.def("device_of", &device_of, py::arg("address"));
  m.def("clear", &clear, py::arg("address"), py::arg("nbytes"), py::arg("stream"));
  m.def("copy", &copy, py::arg("to"), py::arg("from_address"), py::arg("nbytes"), py::arg("stream"));
  m.def("wait_for", &wait_for, py::arg("stream"), py::arg("device"));
  m.def("copy_to_host", &copy_to_host, py::arg("address"), py::arg("host"));
  m.def("copy_to_device", &copy_to_device, py::arg("address"), py::arg("host"));
  m.attr("cuda_version") = py::int_(CUDART_VERSION);
  m.attr("architectures") = GRADSTEP_ARCHITECTURES;
}

}  // namespace
}  // namespace gradstep

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  m.doc() = "gradstep on CUDA devices.";
  gradstep::bind(m);
  gradstep::bind_cuda(m);
}
