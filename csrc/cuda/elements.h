// How a thread takes elements of any number format from memory and puts them back: 16 bytes at once where
// they lie so, one by one where they do not.
#pragma once
#include <cuda_runtime.h>

#include "../storage.h"
#include "table.h"

namespace gradstep {

// Neighbours that a thread moves at once: 16 bytes of the narrowest format that goes with T.
template <class T>
inline constexpr int pack = 32 / sizeof(T);

template <class T>
__device__ __forceinline__ T element(Storage storage, const void* array, std::int64_t at) {
  if constexpr (sizeof(T) == 8) return static_cast<const double*>(array)[at];
  if (storage == Storage::f32) return static_cast<const float*>(array)[at];
  const std::uint16_t x = static_cast<const std::uint16_t*>(array)[at];
  return storage == Storage::f16 ? from_f16(x) : from_bf16(x);
}

template <class T>
__device__ __forceinline__ void set_element(Storage storage, void* array, std::int64_t at, T x) {
  if constexpr (sizeof(T) == 8) {
    static_cast<double*>(array)[at] = x;
  } else if (storage == Storage::f32) {
    static_cast<float*>(array)[at] = x;
  } else {
    static_cast<std::uint16_t*>(array)[at] = storage == Storage::f16 ? to_f16(x) : to_bf16(x);
  }
}

// What `set_element` leaves there.
template <class T>
__device__ __forceinline__ T rounded(Storage storage, T x) {
  if constexpr (sizeof(T) == 4) {
    if (storage == Storage::f16) return from_f16(to_f16(x));
    if (storage == Storage::bf16) return from_bf16(to_bf16(x));
  }
  return x;
}

__device__ __forceinline__ uint4& line(void* array, std::int64_t byte) {
  return *reinterpret_cast<uint4*>(static_cast<char*>(array) + byte);
}
__device__ __forceinline__ uint4 line(const void* array, std::int64_t byte) {
  return *reinterpret_cast<const uint4*>(static_cast<const char*>(array) + byte);
}

// Words of 4 bytes as elements, and back.
template <int n>
__device__ __forceinline__ void spread(const uint4& u, float (&x)[n], int k) {
  x[k] = as_float(u.x), x[k + 1] = as_float(u.y), x[k + 2] = as_float(u.z), x[k + 3] = as_float(u.w);
}
template <int n>
__device__ __forceinline__ void spread(const uint4& u, double (&x)[n], int k) {
  x[k] = __builtin_bit_cast(double, std::uint64_t(u.y) << 32 | u.x);
  x[k + 1] = __builtin_bit_cast(double, std::uint64_t(u.w) << 32 | u.z);
}
template <int n>
__device__ __forceinline__ uint4 gathered(const float (&x)[n], int k) {
  return {bits(x[k]), bits(x[k + 1]), bits(x[k + 2]), bits(x[k + 3])};
}
template <int n>
__device__ __forceinline__ uint4 gathered(const double (&x)[n], int k) {
  const std::uint64_t a = bits(x[k]), b = bits(x[k + 1]);
  return {std::uint32_t(a), std::uint32_t(a >> 32), std::uint32_t(b), std::uint32_t(b >> 32)};
}

__device__ __forceinline__ std::uint32_t short_pair(Storage storage, float low, float high) {
  return storage == Storage::f16 ? to_f16(low) | std::uint32_t(to_f16(high)) << 16
                                 : to_bf16(low) | std::uint32_t(to_bf16(high)) << 16;
}
__device__ __forceinline__ float short_half(Storage storage, std::uint32_t pair, int which) {
  const auto x = std::uint16_t(pair >> 16 * which);
  return storage == Storage::f16 ? from_f16(x) : from_bf16(x);
}

// `n` elements, or a whole number of 16 bytes of them.
template <class T, int n>
__device__ __forceinline__ void load(Storage storage, const void* array, std::int64_t at, T (&x)[n]) {
  constexpr int per_line = 16 / sizeof(T);
  if constexpr (sizeof(T) == 4) {
    if (is_short(storage)) {
      if constexpr (n == 8) {
        const uint4 u = line(array, at * 2);
        const std::uint32_t pairs[] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int k = 0; k < n; ++k) x[k] = short_half(storage, pairs[k / 2], k % 2);
      } else {
#pragma unroll
        for (int k = 0; k < n; ++k) x[k] = element<T>(storage, array, at + k);
      }
      return;
    }
  }
#pragma unroll
  for (int k = 0; k < n; k += per_line) spread(line(array, (at + k) * std::int64_t(sizeof(T))), x, k);
}

template <class T, int n>
__device__ __forceinline__ void store(Storage storage, void* array, std::int64_t at, const T (&x)[n]) {
  constexpr int per_line = 16 / sizeof(T);
  if constexpr (sizeof(T) == 4) {
    if (is_short(storage)) {
      line(array, at * 2) = {short_pair(storage, x[0], x[1]), short_pair(storage, x[2], x[3]),
                             short_pair(storage, x[4], x[5]), short_pair(storage, x[6], x[7])};
      return;
    }
  }
#pragma unroll
  for (int k = 0; k < n; k += per_line) line(array, (at + k) * std::int64_t(sizeof(T))) = gathered(x, k);
}

// How T itself is stored: states, master weights and averages.
template <class T>
inline constexpr Storage own_storage = sizeof(T) == 8 ? Storage::f64 : Storage::f32;

// Where an element, counted in the order of the states, lies in parameter and gradient.
struct Whereabouts {
  std::int64_t p, g;
};
__device__ __forceinline__ Whereabouts whereabouts(const More* more, std::int64_t at) {
  if (!more || !more->dims) return {at, at};
  Whereabouts w{0, 0};
  ROLLED
  for (int d = int(more->dims); d-- > 0;) {
    const Step& axis = more->axes[d];
    const std::int64_t i = at % axis.size;
    at /= axis.size;
    w.p += i * axis.p, w.g += i * axis.g;
  }
  return w;
}

__device__ __forceinline__ bool on_lines(const void* array) {
  return reinterpret_cast<std::uintptr_t>(array) % 16 == 0;
}

}  // namespace gradstep
