// An array as a backend found it, and what its place in memory means.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "layout.h"
#include "storage.h"

namespace gradstep {

// Space for what a view points to, where the array itself does not hold it in this form.
struct Room {
  std::int64_t shape[max_dims], strides[max_dims];
};

// Strides are in bytes.
struct View {
  char* data;
  Format format;
  int dims;
  const std::int64_t *shape, *strides;
  bool writeable;
  int device = 0;

  std::int64_t size() const {
    std::int64_t n = 1;
    for (int d = 0; d < dims; ++d) n *= shape[d];
    return n;
  }

  bool same_shape(const View& v) const { return dims == v.dims && std::equal(shape, shape + dims, v.shape); }

  // One run of memory, the last axis closest or the first.
  bool dense(bool c_order) const {
    std::int64_t stride = info(format).bytes();
    for (int k = 0; k < dims; ++k) {
      const int d = c_order ? dims - 1 - k : k;
      if (shape[d] != 1 && strides[d] != stride) return false;
      stride *= shape[d];
    }
    return true;
  }
};

// Strides in real numbers; those of a complex one are an axis of their own.
struct RealAxes {
  std::int64_t shape[max_dims], strides[max_dims];
  int dims;

  explicit RealAxes(const View& v) : dims(v.dims) {
    const FormatInfo& format = info(v.format);
    for (int d = 0; d < dims; ++d)
      shape[d] = v.shape[d], strides[d] = v.strides[d] / bytes_of(format.storage);
    if (format.parts == 2) shape[dims] = 2, strides[dims++] = 1;
  }
};

// Half-open ranges of addresses.
class Ranges {
 public:
  using Range = std::pair<std::uintptr_t, std::uintptr_t>;

  static Range of(const View& v) {
    auto low = reinterpret_cast<std::uintptr_t>(v.data), high = low + info(v.format).bytes();
    for (int d = 0; d < v.dims; ++d) {
      if (v.shape[d] == 0) return {low, low};
      const std::int64_t reach = (v.shape[d] - 1) * v.strides[d];
      (reach < 0 ? low : high) += reach;
    }
    return {low, high};
  }

  static Range of(const void* at, std::int64_t bytes) {
    const auto low = reinterpret_cast<std::uintptr_t>(at);
    return {low, at ? low + bytes : low};
  }

  void add(Range range) {
    if (range.first < range.second) ranges_.push_back(range);
  }

  // Sorts, and joins ranges that meet. Returns whether two had a byte in common.
  bool seal() {
    std::ranges::sort(ranges_);
    std::size_t kept = 0;
    bool common = false;
    for (const Range& range : ranges_) {
      if (kept && range.first <= ranges_[kept - 1].second) {
        common |= range.first < ranges_[kept - 1].second;
        ranges_[kept - 1].second = std::max(ranges_[kept - 1].second, range.second);
      } else {
        ranges_[kept++] = range;
      }
    }
    ranges_.resize(kept);
    return common;
  }

  bool meets(Range range) const {
    auto after = std::ranges::upper_bound(ranges_, range.first, {}, &Range::second);
    return after != ranges_.end() && after->first < range.second;
  }

 private:
  std::vector<Range> ranges_;
};

}  // namespace gradstep
