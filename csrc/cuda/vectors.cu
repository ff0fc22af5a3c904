// Passes over vectors on a GPU: linear combinations, an element a thread; then dot products, a quad of
// threads to a tile and a pair of vectors, in the order of the CPU.
#include "../vectors.h"
#include "memory.h"
#include "sums.h"
#include "table.h"

namespace gradstep {
namespace {

inline constexpr int argument_units = (argument_bytes - 64) / 8;

// Combinations in a kernel's argument, one after the other: a word each for the result and the number of
// terms, then two for each term.
class Program {
 public:
  explicit Program(std::int64_t n) : n(n) {}

  const std::int64_t n;
  int count = 0;
  std::uint64_t words[argument_units - 4];

  // Whether there was room.
  bool add(const Combination& c) {
    const std::size_t more = 2 + 2 * c.terms.size();
    if (used_ + more > std::size(words)) return false;
    std::uint64_t* to = words + used_;
    *to++ = reinterpret_cast<std::uintptr_t>(c.out);
    *to++ = c.terms.size();
    for (const Term& term : c.terms) {
      *to++ = bits(term.factor);
      *to++ = reinterpret_cast<std::uintptr_t>(term.vector);
    }
    used_ += more, ++count;
    return true;
  }

 private:
  std::size_t used_ = 0;
};

struct Factors {
  std::int64_t n, tiles;
  const void* left[max_left];
  int count = 0;
  const void* right[argument_units - 16];
};

__device__ __forceinline__ double factor_of(std::uint64_t word) { return __builtin_bit_cast(double, word); }

template <class T>
__global__ void __launch_bounds__(threads) combine(const Program __grid_constant__ program) {
  const std::int64_t i = std::int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= program.n) return;
  const std::uint64_t* word = program.words;
  ROLLED
  for (int k = 0; k < program.count; ++k) {
    T* const out = reinterpret_cast<T*>(*word++);
    const std::uint64_t terms = *word++;
    const auto term = [&](std::uint64_t j) {
      return T(factor_of(word[2 * j])) * reinterpret_cast<const T*>(word[2 * j + 1])[i];
    };
    T sum = term(0);
#pragma unroll 4
    for (std::uint64_t j = 1; j < terms; ++j) sum += term(j);
    out[i] = sum;
    word += 2 * terms;
  }
}

// What a quad of threads does: one tile of `rights` tiles.
struct Quad {
  std::int64_t tile, at, n;
  int right;

  __device__ Quad(std::int64_t elements, std::int64_t tiles, int rights) {
    const std::int64_t quad = std::int64_t(blockIdx.x) * (threads / 4) + threadIdx.x / 4;
    tile = quad / rights, right = int(quad % rights), at = tile * tile_elements;
    n = tile >= tiles ? 0 : elements - at < tile_elements ? elements - at : tile_elements;
  }
  __device__ bool first_of(std::int64_t tiles) const { return tile < tiles && threadIdx.x % 4 == 0; }
};

template <int K, class T>
__global__ void __launch_bounds__(threads) dot_tiles(const Factors __grid_constant__ factors, double* sums) {
  const Quad quad(factors.n, factors.tiles, factors.count);
  const T* const right = static_cast<const T*>(factors.right[quad.right]) + quad.at;
  double sum[K][4] = {};
  ROLLED
  for (std::int64_t i = threadIdx.x % 4 * 4; i < quad.n; i += 16) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (i + k >= quad.n) continue;
      const double r = double(right[i + k]);
#pragma unroll
      for (int j = 0; j < K; ++j) {
        const double l = double(static_cast<const T*>(factors.left[j])[quad.at + i + k]);
        // The product of floats is exact in double: one rounding, as a product and a sum have.
        if constexpr (sizeof(T) == 4)
          sum[j][k] = __fma_rn(l, r, sum[j][k]);
        else
          sum[j][k] += l * r;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < K; ++j) {
    const double total = sum_of_lanes(sum[j]);
    if (quad.first_of(factors.tiles))
      sums[(std::int64_t(j) * factors.count + quad.right) * factors.tiles + quad.tile] = total;
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    largest_of_tiles(std::int64_t n, std::int64_t tiles, const T* vector, double* largest) {
  const Quad quad(n, tiles, 1);
  double most = 0;
  ROLLED
  for (std::int64_t i = threadIdx.x % 4; i < quad.n; i += 4) {
    const double x = double(vector[quad.at + i]);
    most = greater(most, x < 0 ? -x : x);
  }
  most = joined_in_quad(most, greater);
  if (quad.first_of(tiles)) largest[quad.tile] = most;
}

// A block sums each product; the last finds the greatest magnitude, and fetches the scalar.
__global__ void __launch_bounds__(total_threads, 1)
    finish(std::int64_t tiles, int dots, const double* sums, double* room, std::int64_t room_each,
           bool largest, Scalar scalar, double* results) {
  const int k = int(blockIdx.x);
  room += k * room_each;
  if (k < dots) {
    const double sum = block_sum(tiles, [&](std::int64_t i) { return sums[k * tiles + i]; }, room);
    if (threadIdx.x == 0) results[k] = sum;
    return;
  }
  double most = 0;
  ROLLED
  for (std::int64_t i = threadIdx.x; largest && i < tiles; i += total_threads)
    most = greater(most, sums[k * tiles + i]);
  room[threadIdx.x] = most;
  __syncthreads();
  if (threadIdx.x) return;
  ROLLED
  for (int i = 1; i < total_threads; ++i) most = greater(most, room[i]);
  results[k] = most;
  results[k + 1] = !scalar.at                  ? scalar.value
                   : is_double(scalar.storage) ? *static_cast<const double*>(scalar.at)
                                               : double(*static_cast<const float*>(scalar.at));
}

}  // namespace

struct Vectors::Memory {
  int device;
  double* on_device = nullptr;  // sums of tiles, room to sum them in, results
  std::int64_t capacity = 0;
  std::vector<double> results;

  void reserve(std::int64_t numbers) {
    if (numbers <= capacity) return;
    check(cudaFree(on_device));
    on_device = nullptr, capacity = 0;
    check(cudaMalloc(&on_device, std::size_t(numbers) * sizeof(double)));
    capacity = numbers;
  }
  template <class T>
  void launch_combinations(const Pass& pass, cudaStream_t stream);
  template <class T>
  void launch_products(const Pass& pass, std::int64_t tiles, cudaStream_t stream);
};

Vectors::Vectors(int device) : memory_(std::make_unique<Memory>(device)) {}
Vectors::~Vectors() { cudaFree(memory_->on_device); }
bool Vectors::far() { return true; }

template <class T>
void Vectors::Memory::launch_combinations(const Pass& pass, cudaStream_t stream) {
  Program program(pass.n);
  for (const Combination& c : pass.combinations)
    if (!program.add(c)) throw std::length_error("expected fewer vectors in one pass");
  if (program.count && pass.n)
    launch(stream, std::uint32_t(pieces(pass.n, threads)), threads, combine<T>, program);
}

template <class T>
void Vectors::Memory::launch_products(const Pass& pass, std::int64_t tiles, cudaStream_t stream) {
  double* sums = on_device;
  Factors factors{pass.n, tiles, {}, 0, {}};
  for (const Products& p : pass.products) {
    if (p.right.size() > std::size(factors.right))
      throw std::length_error("expected fewer vectors in one pass");
    std::ranges::copy(p.left, factors.left);
    std::ranges::copy(p.right, factors.right);
    factors.count = int(p.right.size());
    const auto dots = p.left.size() == 1   ? dot_tiles<1, T>
                      : p.left.size() == 2 ? dot_tiles<2, T>
                                           : dot_tiles<3, T>;
    const std::int64_t quads = tiles * factors.count;
    if (quads) launch(stream, std::uint32_t(pieces(quads, threads / 4)), threads, dots, factors, sums);
    sums += std::int64_t(p.left.size()) * quads;
  }
  if (pass.largest && tiles)
    launch(stream, std::uint32_t(pieces(tiles, threads / 4)), threads, largest_of_tiles<T>, pass.n, tiles,
           static_cast<const T*>(pass.largest), sums);
}

Results Vectors::run(const Pass& pass, void* on) {
  Memory& m = *memory_;
  const OnDevice there(m.device);
  const auto stream = static_cast<cudaStream_t>(on);
  is_double(pass.storage) ? m.launch_combinations<double>(pass, stream)
                          : m.launch_combinations<float>(pass, stream);
  if (!pass.asks()) return {{}, 0, pass.scalar.value};
  const std::int64_t dots = pass.dots(), tiles = pieces(pass.n, tile_elements);
  const std::int64_t room_each = std::max<std::int64_t>(total_threads, tiles / tile_elements * 2 + 64);
  const std::int64_t sums = (dots + 1) * tiles, room = (dots + 1) * room_each;
  m.reserve(sums + room + dots + 2);
  is_double(pass.storage) ? m.launch_products<double>(pass, tiles, stream)
                          : m.launch_products<float>(pass, tiles, stream);
  double* const results = m.on_device + sums + room;
  launch(stream, std::uint32_t(dots + 1), total_threads, finish, tiles, int(dots),
         static_cast<const double*>(m.on_device), m.on_device + sums, room_each, pass.largest != nullptr,
         pass.scalar, results);
  m.results.resize(dots + 2);
  check(cudaMemcpyAsync(m.results.data(), results, (dots + 2) * sizeof(double), cudaMemcpyDeviceToHost,
                        stream));
  check(cudaStreamSynchronize(stream));
  return {std::span(m.results).first(dots), m.results[dots], m.results[dots + 1]};
}

}  // namespace gradstep
