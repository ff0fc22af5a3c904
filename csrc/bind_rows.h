// Rows of data sets as Python sees them: arrays of any dtype, checked there.
#pragma once
#include <cstring>

#include "array.h"
#include "rows.h"

namespace gradstep {

inline constexpr const char* number_names[] = {"float32", "float64", "bfloat16", "float16",
                                               "uint8",   "int8",    "uint16",   "int16",
                                               "uint32",  "int32",   "uint64",   "int64"};
inline constexpr const char* order_names[] = {"given", "shuffled", "replaced"};
inline constexpr const char* result_names[] = {"float32", "float64", "copy"};

template <class Choice, std::size_t n>
Choice choice_of(const char* const (&names)[n], const std::string& name) {
  const auto* const found = std::find(names, names + n, name);
  if (found == names + n) throw py::value_error("no such thing here: " + name);
  return Choice(found - names);
}

template <class T>
T* data_of(py::handle array) {
  return reinterpret_cast<T*>(address_of(array));
}

inline void* stream_at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }

// The rows of one array, and what becomes of them.
class Rows {
 public:
  // `shape` and `strides` of the whole array; strides in bytes. `number`: what an element is, or "" where it
  // is no such, and can but be copied.
  Rows(py::object array, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
       std::int64_t itemsize, const std::string& number, int device)
      : n_(shape.at(0)), device_(device) {
    if (shape.size() != strides.size() || shape.size() > max_dims) throw py::value_error("too many axes");
    Source& source = gather_.source;
    source.at = data_of<const char>(array), source.row = strides[0], source.itemsize = itemsize;
    source.columns = 1;
    for (std::size_t d = 1; d < shape.size(); ++d) {
      source.columns *= shape[d];
      source.add_axis(shape[d], strides[d]);
    }
    source.number = number.empty() ? Number::u8 : choice_of<Number>(number_names, number);
    gather_.result = Result::copy;
  }

  // Standardised by these arrays, or by None: see `Arithmetic` for their type.
  void convert(const std::string& result, const py::object& shift, const py::object& shift_low,
               const py::object& factor) {
    gather_.result = choice_of<Result>(result_names, result);
    gather_.shift = data_of<const void>(shift), gather_.shift_low = data_of<const void>(shift_low);
    gather_.factor = data_of<const void>(factor);
  }

  void augment(std::tuple<std::int64_t, std::int64_t, std::int64_t> size,
               std::pair<std::int64_t, std::int64_t> out_size, std::pair<std::int64_t, std::int64_t> shift,
               bool flip, double noise, const py::bytes& element) {
    const auto [height, width, channels] = size;
    const auto fill = std::string(element);
    gather_.augments = true;
    gather_.images = {height,      width,        channels, out_size.first, out_size.second,
                      shift.first, shift.second, flip,     noise,          {}};
    std::memcpy(gather_.images.fill, fill.data(), std::min(fill.size(), sizeof gather_.images.fill));
  }

  // Rows `count` positions from `position` on; `indices` of None: they are in order.
  void gather(std::uint64_t seed, std::uint32_t epoch, std::int64_t position, std::int64_t count,
              const py::object& indices, const py::object& out, std::uintptr_t stream) const {
    Gather gather = gather_;
    gather.draws = {seed, epoch};
    const Batch batch{position, count, data_of<const std::int64_t>(indices), data_of<char>(out)};
    without_gil([&] { gather_rows(gather, batch, device_, stream_at(stream)); });
  }

  // Count, mean and sum of squares of each column, less a number near it.
  py::array_t<double> moments(const py::object& near, std::uintptr_t stream) const {
    const auto* const base = data_of<const double>(near);
    py::array_t<double> found({gather_.source.columns, std::int64_t(3)});
    auto* const to = reinterpret_cast<Moments*>(found.mutable_data());
    without_gil([&] { column_moments(gather_.source, n_, base, to, device_, stream_at(stream)); });
    return found;
  }

 private:
  std::int64_t n_;
  int device_;
  Gather gather_{};
};

// Writes which of `n` rows come at `count` positions from `position` on.
inline void select(const std::string& order, std::uint64_t n, std::uint64_t seed, std::uint32_t epoch,
                   std::int64_t position, std::int64_t count, const py::object& indices, int device,
                   std::uintptr_t stream) {
  const Selection selection(choice_of<Order>(order_names, order), n, {seed, epoch});
  if (position < 0 || count < 0 ||
      (selection.order != Order::replaced && std::uint64_t(position + count) > n))
    throw py::value_error("expected positions of rows");  // a walk from beyond them may never end
  auto* const to = data_of<std::int64_t>(indices);
  without_gil([&] { select_rows(selection, position, count, to, device, stream_at(stream)); });
}

inline void bind_rows(py::module_& m) {
  py::class_<Rows>(m, "Rows", py::module_local(), "The rows of one array, and what becomes of them.")
      .def(py::init<py::object, const std::vector<std::int64_t>&, const std::vector<std::int64_t>&,
                    std::int64_t, const std::string&, int>(),
           py::arg("array"), py::arg("shape"), py::arg("strides"), py::arg("itemsize"), py::arg("number"),
           py::arg("device"))
      .def("convert", &Rows::convert, py::arg("result"), py::arg("shift"), py::arg("shift_low"),
           py::arg("factor"))
      .def("augment", &Rows::augment, py::arg("size"), py::arg("out_size"), py::arg("shift"), py::arg("flip"),
           py::arg("noise"), py::arg("fill"))
      .def("gather", &Rows::gather, py::arg("seed"), py::arg("epoch"), py::arg("position"), py::arg("count"),
           py::arg("indices"), py::arg("out"), py::arg("stream"))
      .def("moments", &Rows::moments, py::arg("near"), py::arg("stream"));
  m.def("select", &select, py::arg("order"), py::arg("n"), py::arg("seed"), py::arg("epoch"),
        py::arg("position"), py::arg("count"), py::arg("indices"), py::arg("device"), py::arg("stream"));
  m.attr("chunk_rows") = py::int_(chunk_rows);
  m.attr("most_epochs") = py::int_(most_epochs);
  m.attr("numbers") = std::vector<std::string>(std::begin(number_names), std::end(number_names));
}

}  // namespace gradstep
