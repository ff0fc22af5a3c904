// The pass that reads gradients: sums of squares and what is not finite, a quad of threads to a chunk.
#include "elements.h"
#include "memory.h"
#include "sums.h"

namespace gradstep {
namespace {

// The chunk of gradients that a quad of threads reads. Beyond the last it is empty: the quad takes part in
// what its warp does together.
template <class T>
struct Reading {
  const Entry<0>& e;
  const More* more;
  std::uint32_t chunk;  // its number in the call
  std::int64_t at, n;
  bool mine, whole;  // whole: each 4 lie as one run on lines of 16 bytes

  __device__ Reading(const Table<0>& table, std::uint32_t number)
      : e(table.find(number < table.parts() ? number : 0)),
        more(table.more(e)),
        mine(number < table.parts()) {
    const std::uint32_t of_entry = mine ? number - e.first : 0;
    chunk = e.chunk + of_entry;
    at = of_entry * tile_elements;
    n = !mine ? 0 : e.n - at < tile_elements ? e.n - at : tile_elements;
    whole = (!more || !more->dims) && on_lines(e.g);
  }

  // 4 neighbours from the i-th on; beyond the last, zeros.
  __device__ void few(std::int64_t i, T (&g)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) g[k] = 0;
    ROLLED
    for (int k = 0; k < 4; ++k)
      if (i + k < n) {
        const T x = element<T>(e.g_storage, e.g, whereabouts(more, at + i + k).g);
#pragma unroll
        for (int j = 0; j < 4; ++j) g[j] = j == k ? x : g[j];  // so that g stays in registers
      }
  }

  // `add(g, lanes)` for each thread's fours in turn.
  template <class Add>
  __device__ double sum(const Add& add) const {
    double lanes[4] = {};
    std::int64_t i = threadIdx.x % 4 * 4;
    T g[4];
#pragma unroll 4
    for (; whole && i + 4 <= n; i += 16) {
      load<T>(e.g_storage, e.g, at + i, g);
      add(g, lanes);
    }
    ROLLED
    for (; i < n; i += 16) {
      few(i, g);
      add(g, lanes);
    }
    return sum_of_lanes(lanes);
  }
};

__device__ __forceinline__ std::uint32_t quad_of_grid() {
  return blockIdx.x * (threads / 4) + threadIdx.x / 4;
}

// What is asked for seldom, by all quads of a warp together.
template <class T>
__device__ void count(const Reading<T>& gradients, Chunk& chunk, bool wanted) {
  std::int32_t zeros = 0, nans = 0, infs = 0;
  T most = 0;
  const T infinity = T(__builtin_inf());
  ROLLED
  for (std::int64_t i = threadIdx.x % 4 * 4; i < gradients.n; i += 16) {
    T g[4];
    gradients.few(i, g);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (i + k >= gradients.n) continue;
      const T magnitude = g[k] < 0 ? -g[k] : g[k];
      zeros += g[k] == 0, nans += g[k] != g[k], infs += magnitude == infinity;
      most = magnitude > most ? magnitude : most;
    }
  }
  const auto add = [](std::int32_t a, std::int32_t b) { return a + b; };
  zeros = joined_in_quad(zeros, add), nans = joined_in_quad(nans, add), infs = joined_in_quad(infs, add);
  most = joined_in_quad(most, [](T a, T b) { return a > b ? a : b; });
  if (!wanted || threadIdx.x % 4) return;
  chunk.zeros = zeros, chunk.nans = nans, chunk.infs = infs;
  chunk.max_abs = nans ? __builtin_nan("") : double(most);
}

__device__ bool special(double g) { return (bits(g) & bits(__builtin_inf())) == bits(__builtin_inf()); }

template <class T>
__global__ void __launch_bounds__(threads, 4)
    survey_chunks(const Table<0> __grid_constant__ table, bool counted, DeviceMemory memory) {
  const Reading<T> gradients(table, quad_of_grid());
  int odd = 0;
  const double sum_sq = gradients.sum([&](const T(&g)[4], double* lanes) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // The square of a float is exact in double: one rounding, as a product and a sum have.
      if constexpr (sizeof(T) == 4)
        lanes[k] = __fma_rn(double(g[k]), double(g[k]), lanes[k]);
      else
        lanes[k] += g[k] * g[k], odd |= special(g[k]);
    }
  });
  odd = joined_in_quad(odd, [](int a, int b) { return a | b; });
  if (sizeof(T) == 4) odd = !(of_quad(sum_sq) < __builtin_inf());
  Chunk& out = memory.chunks[gradients.chunk];
  if (gradients.mine && threadIdx.x % 4 == 0) {
    out.sum_sq = sum_sq, out.finite = !odd;
    if (odd) memory.status->odd = 1;
  }
  const bool asked = gradients.mine && (counted || odd);
  if (__any_sync(whole_warp, asked)) count(gradients, out, asked);
}

// The squares once more, in a unit in which they are in range.
template <class T>
__global__ void __launch_bounds__(threads, 4)
    rescale_chunks(const Table<0> __grid_constant__ table, bool own, DeviceMemory memory) {
  if (!own && unit_for(memory.status->sum_sq[0]) == 1) return;
  const Reading<T> gradients(table, quad_of_grid());
  const double scale = 1 / unit_for(own ? memory.own_sum_sq[2 * gradients.e.slot] : memory.status->sum_sq[0]);
  const double sum_sq = gradients.sum([&](const T(&g)[4], double* lanes) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const double x = double(g[k]) * scale;
      lanes[k] += x * x;
    }
  });
  if (gradients.mine && threadIdx.x % 4 == 0) memory.rescaled[gradients.chunk] = sum_sq;
}

__global__ void __launch_bounds__(total_threads, 1)
    total_chunks(std::int64_t chunks, bool rescaled, DeviceMemory memory) {
  if (rescaled && unit_for(memory.status->sum_sq[0]) == 1) return;
  const double sum = block_sum(
      chunks, [&](std::int64_t i) { return rescaled ? memory.rescaled[i] : memory.chunks[i].sum_sq; },
      memory.terms);
  if (threadIdx.x == 0) memory.status->sum_sq[rescaled] = sum;
}

template <class T>
void survey_of(std::span<const Tensor> tensors, Unit unit, bool counted, const DeviceMemory& memory,
               cudaStream_t stream) {
  const auto wanted = [](const Tensor& t) { return t.g && is_double(t.g_storage) == (sizeof(T) == 8); };
  in_tables<0>(tensors, tile_elements, wanted, [&](const Table<0>& table) {
    const auto blocks = std::uint32_t(pieces(table.parts(), threads / 4));
    if (unit == Unit::one)
      launch(stream, blocks, threads, survey_chunks<T>, table, counted, memory);
    else
      launch(stream, blocks, threads, rescale_chunks<T>, table, unit == Unit::own, memory);
  });
}

}  // namespace

void survey(std::span<const Tensor> tensors, Unit unit, bool counted, const DeviceMemory& memory,
            cudaStream_t stream) {
  if (unit != Unit::own) survey_of<float>(tensors, unit, counted, memory, stream);  // in range by themselves
  survey_of<double>(tensors, unit, counted, memory, stream);
}

void total(std::int64_t chunks, bool rescaled, const DeviceMemory& memory, cudaStream_t stream) {
  launch(stream, 1, total_threads, total_chunks, chunks, rescaled, memory);
}

}  // namespace gradstep
