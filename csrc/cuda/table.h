// The tensors of a launch, by value in the kernel's argument: no copy to the device, no allocation, and a
// CUDA graph remembers them.
#pragma once
#include <algorithm>
#include <cstring>
#include <new>

#include "../backend.h"

namespace gradstep {

inline constexpr int argument_bytes = 32764;  // what CUDA 12.1 and later allow

struct Step {
  std::int64_t size, p, g;  // of an axis: its length, and how many elements apart neighbours are
};

// What few tensors have.
struct More {
  void *master, *average;
  std::int64_t dims;  // 0 where parameter and gradient are each one run of memory
  Step axes[1];       // as many as there are dims
};

template <int states>
struct Entry {
  void *p, *g;  // no gradient: only the average moves
  std::int64_t n;
  std::uint32_t slot, chunk;  // its number in the plan, and that of its first chunk in the call
  std::uint32_t first;        // number of its first part in the launch
  std::uint16_t more;         // where in the table its More lies, in units of 8 bytes; 0: it has none
  Storage p_storage, g_storage;
  void* s[states ? states : 1];
};

// Entries from the front, what few have from the back.
template <int states>
class Table {
  static constexpr int units = (argument_bytes - 128) / 8;  // other arguments find room beside it
  std::uint32_t count_ = 0, parts_ = 0, end_ = units;
  alignas(8) unsigned char bytes_[units * 8];

 public:
  Table() {}

  __host__ __device__ std::uint32_t count() const { return count_; }
  __host__ __device__ std::uint32_t parts() const { return parts_; }
  __host__ __device__ const Entry<states>& entry(std::uint32_t k) const {
    return reinterpret_cast<const Entry<states>*>(bytes_)[k];
  }
  __host__ __device__ const More* more(const Entry<states>& e) const {
    return e.more ? reinterpret_cast<const More*>(bytes_ + 8 * e.more) : nullptr;
  }

  // The entry that a part belongs to.
  __device__ const Entry<states>& find(std::uint32_t part) const {
    std::uint32_t low = 0, high = count_;
    while (high - low > 1) {
      const std::uint32_t middle = (low + high) / 2;
      (entry(middle).first <= part ? low : high) = middle;
    }
    return entry(low);
  }

  // Whether there was room.
  bool add(const Tensor& t, std::int64_t elements_of_a_part) {
    const Layout* const layout = t.layout;
    const int dims = layout ? layout->dims : 0;
    const std::size_t rest = t.master || t.average || dims ? sizeof(More) + dims * sizeof(Step) : 0;
    const std::size_t used = (count_ + 1) * sizeof(Entry<states>);
    if (used + rest > 8 * end_) return false;
    auto* const e = new (bytes_ + count_ * sizeof(Entry<states>)) Entry<states>{};
    e->p = t.p, e->g = t.g, e->n = t.n;
    e->slot = std::uint32_t(t.slot), e->chunk = std::uint32_t(t.first_chunk), e->first = parts_;
    e->p_storage = t.p_storage, e->g_storage = t.g_storage;
    std::copy_n(t.s, states, e->s);
    if (rest) {
      end_ -= std::uint32_t(rest / 8);
      e->more = std::uint16_t(end_);
      auto* const m = new (bytes_ + 8 * end_) More{t.master, t.average, dims, {}};
      for (int d = 0; d < dims; ++d)
        m->axes[d] = {layout->axes[d].size, layout->axes[d].p, layout->axes[d].g};
    }
    ++count_;
    parts_ += std::uint32_t(pieces(t.n, elements_of_a_part));
    return true;
  }

  void clear() { count_ = 0, parts_ = 0, end_ = units; }
};

// Calls `launch` with tables that hold the tensors for which `wanted` is true, as few as it takes.
template <int states, class Wanted, class Launch>
void in_tables(std::span<const Tensor> tensors, std::int64_t elements_of_a_part, const Wanted& wanted,
               const Launch& launch) {
  Table<states> table;
  for (const Tensor& t : tensors) {
    if (t.n == 0 || !wanted(t)) continue;
    if (table.add(t, elements_of_a_part)) continue;
    launch(table);
    table.clear();
    table.add(t, elements_of_a_part);
  }
  if (table.parts()) launch(table);
}

}  // namespace gradstep
