// Passes over vectors and the L-BFGS method as Python sees them.
#pragma once
#include "array.h"
#include "lbfgs.h"

namespace gradstep {

// A vector as it lies in memory: all elements side by side.
inline View dense(py::handle array, const char* argument, Format format, std::int64_t n) {
  const Label label{argument, py::str("")};
  Room room;
  View v = read(array, label, room);
  if (v.format != format || v.size() != n || (n && !v.dense(true)))
    throw py::value_error(label.text() + ": expected " + std::to_string(n) + " contiguous elements of " +
                          info(format).name + ", got " + describe(array));
  return v;
}

// Vectors of one format and length, beginning with the first that is read.
class Reader {
 public:
  explicit Reader(py::handle first) {
    Room room;
    const View v = read(first, {"vectors", py::str("")}, room);
    format = v.format, n = v.size(), device = v.device;
    const Storage storage = info(format).storage;
    if (is_short(storage) || info(format).parts != 1)
      throw py::type_error("vectors: expected float32 or float64, got " + describe(first));
  }
  const void* operator()(py::handle array) const { return dense(array, "vectors", format, n).data; }
  void* written(py::handle array) const {
    const View v = dense(array, "vectors", format, n);
    if (!v.writeable) refuse_read_only({"vectors", py::str("")});
    return v.data;
  }
  Storage storage() const { return info(format).storage; }

  Format format;
  std::int64_t n;
  int device;
};

// A Python number, or an array of one on this backend's device.
inline Scalar scalar_of(py::handle x, Room& room) {
  if (PyFloat_Check(x.ptr())) return {PyFloat_AS_DOUBLE(x.ptr())};
  const View v = read(x, {"f", py::str("")}, room);
  if (v.size() != 1 || info(v.format).parts != 1 || is_short(info(v.format).storage))
    throw py::type_error("f: expected one float, got " + describe(x));
  return {0, v.data, info(v.format).storage};
}

// `combinations`: pairs of a vector to write and the terms that it is the sum of; `products`: pairs of a
// few vectors and those that each is multiplied with.
inline auto run_pass(Vectors& vectors, const py::list& combinations, const py::list& products,
                     const py::object& largest, const py::object& scalar) {
  forget_producers();
  const py::handle first =
      combinations.empty()
          ? products.empty() ? py::handle(largest) : py::tuple(py::tuple(products[0])[0])[0].ptr()
          : py::tuple(combinations[0])[0].ptr();
  const Reader reader(first);
  std::vector<std::vector<Term>> terms;
  std::vector<std::vector<const void*>> rows;
  std::vector<Combination> todo;
  std::vector<Products> wanted;
  for (const py::handle c : combinations) {
    auto& found = terms.emplace_back();
    for (const py::handle t : py::tuple(py::reinterpret_borrow<py::tuple>(c)[1])) {
      const auto term = py::reinterpret_borrow<py::tuple>(t);
      found.push_back({term[0].cast<double>(), reader(term[1])});
    }
    if (found.empty()) throw py::value_error("terms: expected one at least");
    todo.push_back({reader.written(py::reinterpret_borrow<py::tuple>(c)[0]), found});
  }
  for (const py::handle p : products) {
    for (int side = 0; side < 2; ++side) {
      auto& found = rows.emplace_back();
      for (const py::handle v : py::tuple(py::reinterpret_borrow<py::tuple>(p)[side]))
        found.push_back(reader(v));
    }
    const auto& left = rows[rows.size() - 2];
    if (left.empty() || int(left.size()) > max_left)
      throw py::value_error("left: expected 1 to " + std::to_string(max_left) + " vectors");
  }
  for (std::size_t k = 0; k < rows.size(); k += 2) wanted.push_back({rows[k], rows[k + 1]});
  Room room;
  const Pass pass{
      reader.storage(),       reader.n, todo, wanted, largest.is_none() ? nullptr : reader(largest),
      scalar_of(scalar, room)};
  void* const stream = current_stream(reader.device);
  const Results found = waited([&] { return vectors.run(pass, stream); });
  return std::tuple(std::vector<double>(found.dots.begin(), found.dots.end()), found.largest, found.scalar);
}

// What a history is beside vectors, for checkpoints: the slots of its pairs, of each slot the length of its
// step, and the products; and whether a step was taken at all.
using HistoryFacts =
    std::tuple<std::vector<int>, std::vector<double>, std::vector<double>, std::vector<double>, bool>;

inline HistoryFacts facts_of(Lbfgs& method) {
  History& h = method.history();
  std::vector<double> lengths, sy, yy;
  for (int i = 0; i < h.slots(); ++i) {
    lengths.push_back(h.length(i));
    for (int j = 0; j < h.slots(); ++j) sy.push_back(h.sy(i, j)), yy.push_back(h.yy(i, j));
  }
  return {h.pairs(), lengths, sy, yy, method.first()};
}

inline void restore(Lbfgs& method, const HistoryFacts& facts) {
  const auto& [pairs, lengths, sy, yy, first] = facts;
  History& h = method.history();
  const auto slots = std::size_t(h.slots());
  std::vector<bool> taken(slots);
  bool fits = lengths.size() == slots && sy.size() == slots * slots && yy.size() == sy.size() &&
              int(pairs.size()) <= h.capacity();
  for (const int k : pairs) {
    fits = fits && k >= 0 && k < int(slots) && !taken[std::size_t(k)];
    if (fits) taken[std::size_t(k)] = true;
  }
  for (const auto* numbers : {&lengths, &sy, &yy})
    fits = fits && std::ranges::all_of(*numbers, [](double x) { return std::isfinite(x); });
  if (!fits) throw py::value_error("expected finite numbers of a history of this size");
  h.clear();
  for (const int k : pairs) h.push(k);
  for (int i = 0; i < h.slots(); ++i) {
    h.length(i) = lengths[i];
    for (int j = 0; j < h.slots(); ++j) h.sy(i, j) = sy[i * slots + j], h.yy(i, j) = yy[i * slots + j];
  }
  method.set_first(first);
}

// The method with the arrays that it works on.
class LbfgsArrays {
 public:
  LbfgsArrays(py::object x, py::object trial, py::object gradient, py::object rows, int capacity,
              int max_line_search, std::unique_ptr<Region> region = {})
      : arrays_{std::move(x), std::move(trial), std::move(gradient), std::move(rows)},
        reader_(arrays_[0]),
        method_(place(arrays_, reader_, capacity), capacity, max_line_search, std::move(region)) {}

  void begin(const py::object& f, const py::object& g) {
    with(f, g, [&](Scalar value, const void* at, void* stream) { method_.begin(value, at, stream); });
  }
  int tell(const py::object& f, const py::object& g) {
    Lbfgs::Task task{};
    with(f, g, [&](Scalar value, const void* at, void* stream) { task = method_.tell(value, at, stream); });
    told_ = g;
    return int(task);
  }
  bool advance() {
    bool descends = false;
    call([&](void* stream) { descends = method_.advance(stream); });
    told_ = py::none();
    return descends;
  }
  void settle() {
    call([&](void* stream) { method_.settle(stream); });
  }
  void set_trial(const py::object& trial) {
    method_.set_trial(reader_.written(trial));
    arrays_[1] = trial;
  }
  Lbfgs& method() { return method_; }

 private:
  static Lbfgs::Place place(const std::array<py::object, 4>& arrays, const Reader& reader, int capacity) {
    Room room;
    const View rows = read(arrays[3], {"rows", py::str("")}, room);
    const int bytes = info(reader.format).bytes();
    if (rows.format != reader.format || rows.dims != 2 || rows.shape[0] != 2 * (capacity + 1) ||
        rows.shape[1] != reader.n || (reader.n > 1 && rows.strides[1] != bytes))
      throw py::value_error("rows: expected " + std::to_string(2 * (capacity + 1)) + " rows, got " +
                            describe(arrays[3]));
    const auto at = [&](int k) { return reader.written(arrays[k]); };
    return {reader.storage(), reader.n, at(0), at(1), at(2), rows.data, rows.strides[0], reader.device};
  }

  template <class Do>
  void call(const Do& work) {
    void* const stream = current_stream(reader_.device);
    without_gil([&] { work(stream); });
  }
  template <class Do>
  void with(const py::object& f, const py::object& g, const Do& work) {
    Room room;
    forget_producers();
    const Scalar value = scalar_of(f, room);
    const void* const at = dense(g, "jac", reader_.format, reader_.n).data;
    call([&](void* stream) { work(value, at, stream); });
  }

  std::array<py::object, 4> arrays_;
  Reader reader_;
  Lbfgs method_;
  py::object told_;  // read again by `advance`
};

inline void bind_lbfgs(py::module_& m) {
  using namespace py::literals;
  py::class_<Vectors>(m, "Vectors", py::module_local(), "Linear algebra on vectors of equal length.")
      .def(py::init<int>(), "device"_a = 0)
      .def("run", &run_pass, "combinations"_a, "products"_a, "largest"_a = py::none(), "scalar"_a = 0.0,
           "Linear combinations in order, then products, in one pass over memory.");
  py::class_<LbfgsArrays>(m, "Lbfgs", py::module_local(), "The L-BFGS method, as a dialogue.")
      .def(py::init<py::object, py::object, py::object, py::object, int, int>(), "x"_a, "trial"_a,
           "gradient"_a, "rows"_a, "maxcor"_a, "maxls"_a)
      .def("begin", &LbfgsArrays::begin, "f"_a, "g"_a)
      .def("tell", &LbfgsArrays::tell, "f"_a, "g"_a)
      .def("advance", &LbfgsArrays::advance)
      .def("settle", &LbfgsArrays::settle)
      .def("set_trial", &LbfgsArrays::set_trial, "trial"_a)
      .def("forget", [](LbfgsArrays& a) { a.method().forget(); })
      .def_property_readonly("f", [](LbfgsArrays& a) { return a.method().f(); })
      .def_property_readonly("largest", [](LbfgsArrays& a) { return a.method().largest(); })
      .def_property_readonly("square", [](LbfgsArrays& a) { return a.method().square(); })
      .def_property_readonly("step_norm", [](LbfgsArrays& a) { return a.method().step_norm(); })
      .def_property(
          "history", [](LbfgsArrays& a) { return facts_of(a.method()); },
          [](LbfgsArrays& a, const HistoryFacts& facts) { restore(a.method(), facts); })
      .def_property_readonly("pairs",
                             [](LbfgsArrays& a) { return int(a.method().history().pairs().size()); });
}

}  // namespace gradstep
