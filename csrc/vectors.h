// Linear algebra on vectors of equal length: linear combinations, then products of what these left, in one
// pass over memory. What methods of second order are made of; each backend defines it.
#pragma once
#include <memory>
#include <span>

#include "storage.h"

namespace gradstep {

struct Term {
  double factor;
  const void* vector;
};

// The sum of its terms in the order given, each operation rounded to the vectors' type. The result may be one
// of the vectors.
struct Combination {
  void* out;
  std::span<const Term> terms;  // one at least
};

// The dot product of each vector on the left, of which there are `max_left` at most, with each on the right.
struct Products {
  std::span<const void* const> left, right;
};

inline constexpr int max_left = 3;

// A number that may be on the device still.
struct Scalar {
  double value = 0;
  const void* at = nullptr;  // where it lies, if not null, in this format
  Storage storage = Storage::f64;
};

// All vectors are `n` floats or doubles, side by side.
struct Pass {
  Storage storage;
  std::int64_t n;
  std::span<const Combination> combinations = {};
  std::span<const Products> products = {};
  const void* largest = nullptr;  // a vector whose greatest magnitude is wanted
  Scalar scalar = {};

  std::int64_t dots() const {
    std::int64_t count = 0;
    for (const Products& p : products) count += std::int64_t(p.left.size() * p.right.size());
    return count;
  }
  std::int64_t streams() const {  // vectors that are read or written, some perhaps twice
    std::size_t count = 0;
    for (const Combination& c : combinations) count += 1 + c.terms.size();
    for (const Products& p : products) count += p.right.size();
    return std::int64_t(count);
  }
  bool asks() const { return dots() || largest || scalar.at; }
};

struct Results {
  std::span<const double> dots;  // of each Products in turn the left's first with all on the right, and so on
  double largest;                // NaN if an element is
  double scalar;
};

// Runs passes, and keeps room for their sums.
class Vectors {
 public:
  explicit Vectors(int device);
  ~Vectors();
  Vectors(const Vectors&) = delete;
  Vectors& operator=(const Vectors&) = delete;

  // Waits for the device where the pass asks for anything. The results are good until the next.
  Results run(const Pass& pass, void* stream);

  static bool far();  // whether to ask twice costs more than to compute what may not be needed

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

}  // namespace gradstep
