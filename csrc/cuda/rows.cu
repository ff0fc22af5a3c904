// Rows of data sets on a GPU: an element of the result a thread; moments, a column of a block of rows a
// thread.
#include "../rows.h"
#include "memory.h"

namespace gradstep {
namespace {

template <class Stored>
__device__ __forceinline__ Stored stored(const char* at) {
  return *reinterpret_cast<const Stored*>(at);
}

// Calls `visit` with the element as the number that it is.
template <class Visit>
__device__ __forceinline__ auto visit_number(Number number, const char* at, const Visit& visit) {
  switch (number) {
    case Number::f32:
      return visit(stored<float>(at));
    case Number::bf16:
      return visit(from_bf16(stored<std::uint16_t>(at)));
    case Number::f16:
      return visit(from_f16(stored<std::uint16_t>(at)));
    case Number::u8:
      return visit(stored<std::uint8_t>(at));
    case Number::i8:
      return visit(stored<std::int8_t>(at));
    case Number::u16:
      return visit(stored<std::uint16_t>(at));
    case Number::i16:
      return visit(stored<std::int16_t>(at));
    case Number::u32:
      return visit(stored<std::uint32_t>(at));
    case Number::i32:
      return visit(stored<std::int32_t>(at));
    case Number::u64:
      return visit(stored<std::uint64_t>(at));
    case Number::i64:
      return visit(stored<std::int64_t>(at));
    default:
      return visit(stored<double>(at));
  }
}

__device__ __forceinline__ double as_double(Number number, const char* at) {
  return visit_number(number, at, [](auto x) { return double(x); });
}

__global__ void __launch_bounds__(threads, 4)
    select(const Selection __grid_constant__ selection, std::int64_t position, std::int64_t count,
           std::int64_t* indices) {
  const std::int64_t i = std::int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < count) indices[i] = selection(std::uint64_t(position + i));
}

// Which column of the source element `k` of a result is; below 0 where none is.
__device__ __forceinline__ std::int64_t column_of(const Images& m, const Crop& crop, std::int64_t k) {
  const std::int64_t channel = k % m.channels, pixel = k / m.channels;
  const std::int64_t across = pixel % m.out_width;
  const std::int64_t y = crop.y + pixel / m.out_width,
                     x = crop.x + (crop.mirrored ? m.out_width - 1 - across : across);
  return y < 0 || y >= m.height || x < 0 || x >= m.width ? -1 : (y * m.width + x) * m.channels + channel;
}

__device__ __forceinline__ double noise(const Draws& draws, std::int64_t position, std::int64_t k) {
  const Words words = draws.at(Use::noise, std::uint64_t(position), std::uint32_t(k / 4));
  const bool late = k % 4 / 2;
  const Pair two = normals(late ? words.w[2] : words.w[0], late ? words.w[3] : words.w[1]);
  return k % 2 ? two.second : two.first;
}

template <class A>
__device__ __forceinline__ A of_column(const void* columns, std::int64_t column) {
  return static_cast<const A*>(columns)[column];
}

template <class T>
__device__ __forceinline__ T converted(const Gather& g, const char* from, std::int64_t column) {
  return visit_number(g.source.number, from, [&](auto x) {
    using A = Arithmetic<decltype(x), T>;
    if (!g.shift) return T(x);
    return T(standardised(A(x), of_column<A>(g.shift, column), of_column<A>(g.shift_low, column),
                          of_column<A>(g.factor, column)));
  });
}

template <class T>
__device__ __forceinline__ void put(const Gather& g, const char* from, std::int64_t column,
                                    std::int64_t position, std::int64_t k, char* to) {
  T x;
  if (from)
    x = converted<T>(g, from, column);
  else
    for (int i = 0; i < int(sizeof x); ++i) reinterpret_cast<unsigned char*>(&x)[i] = g.images.fill[i];
  if (g.augments && g.images.noise != 0) x = T(double(x) + g.images.noise * noise(g.draws, position, k));
  *reinterpret_cast<T*>(to) = x;
}

__device__ __forceinline__ void copy(const Gather& g, const char* from, char* to) {
  if (!from) from = reinterpret_cast<const char*>(g.images.fill);
  ROLLED
  for (std::int64_t i = 0; i < g.source.itemsize; ++i) to[i] = from[i];
}

__global__ void __launch_bounds__(threads, 4)
    gather(const Gather __grid_constant__ g, const Batch __grid_constant__ batch, std::int64_t columns) {
  const std::int64_t at = std::int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at >= batch.count * columns) return;
  const std::int64_t i = at / columns, k = at % columns, position = batch.position + i;
  std::int64_t column = k, left;
  if (g.augments) column = column_of(g.images, crop_of(g.images, g.draws, std::uint64_t(position)), k);
  const char* from = nullptr;
  if (column >= 0)
    from = g.source.at + (batch.indices ? batch.indices[i] : position) * g.source.row +
           g.source.offset(column, left);
  char* const to = batch.out + at * g.out_bytes();
  if (g.result == Result::copy)
    copy(g, from, to);
  else if (g.result == Result::f64)
    put<double>(g, from, column, position, k, to);
  else
    put<float>(g, from, column, position, k, to);
}

// In two passes, as a chunk is in cache.
__device__ Moments chunk_moments(const Source& source, const char* at, std::int64_t rows, double near) {
  double count = 0, sum = 0, squares = 0;
  ROLLED
  for (std::int64_t r = 0; r < rows; ++r) {
    const double x = as_double(source.number, at + r * source.row);
    sum += x == x ? x - near : 0, count += x == x ? 1. : 0.;
  }
  const double mean = count == 0 ? 0 : sum / count;
  ROLLED
  for (std::int64_t r = 0; r < rows; ++r) {
    const double x = as_double(source.number, at + r * source.row), d = x == x ? (x - near) - mean : 0;
    squares += d * d;
  }
  return {count, mean, squares};
}

__global__ void __launch_bounds__(threads, 4)
    block_moments(const Source __grid_constant__ source, std::int64_t n, std::int64_t blocks,
                  const double* near, Moments* found) {
  const std::int64_t at = std::int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at >= blocks * source.columns) return;
  const std::int64_t first = at / source.columns * block_rows,
                     end = first + block_rows < n ? first + block_rows : n;
  std::int64_t left;
  const char* const column = source.at + source.offset(at % source.columns, left);
  Moments moments{0, 0, 0};
  ROLLED
  for (std::int64_t row = first; row < end; row += chunk_rows) {
    const std::int64_t rows = end - row < chunk_rows ? end - row : chunk_rows;
    moments =
        joined(moments, chunk_moments(source, column + row * source.row, rows, near[at % source.columns]));
  }
  found[at] = moments;
}

__global__ void __launch_bounds__(threads, 4)
    join_blocks(std::int64_t columns, std::int64_t blocks, Moments* found) {
  const std::int64_t c = std::int64_t(blockIdx.x) * threads + threadIdx.x;
  if (c >= columns) return;
  Moments moments = found[c];
  ROLLED
  for (std::int64_t block = 1; block < blocks; ++block) moments = joined(moments, found[block * columns + c]);
  found[c] = moments;
}

std::uint32_t blocks_of(std::int64_t elements) { return std::uint32_t(pieces(elements, threads)); }

}  // namespace

void select_rows(const Selection& selection, std::int64_t position, std::int64_t count, std::int64_t* indices,
                 int device, void* stream) {
  const OnDevice there(device);
  if (count)
    launch(static_cast<cudaStream_t>(stream), blocks_of(count), threads, select, selection, position, count,
           indices);
}

void gather_rows(const Gather& g, const Batch& batch, int device, void* stream) {
  const OnDevice there(device);
  const std::int64_t columns = g.out_columns();
  if (batch.count * columns)
    launch(static_cast<cudaStream_t>(stream), blocks_of(batch.count * columns), threads, gather, g, batch,
           columns);
}

void column_moments(const Source& source, std::int64_t n, const double* near, Moments* moments, int device,
                    void* on) {
  const OnDevice there(device);
  const auto stream = static_cast<cudaStream_t>(on);
  const std::int64_t blocks = std::max<std::int64_t>(1, pieces(n, block_rows)), columns = source.columns;
  if (!columns) return;
  Moments* found = nullptr;
  check(cudaMalloc(&found, std::size_t(blocks * columns) * sizeof(Moments)));
  const std::unique_ptr<Moments, cudaError_t (*)(void*)> owner(found, &cudaFree);
  launch(stream, blocks_of(blocks * columns), threads, block_moments, source, n, blocks, near, found);
  launch(stream, blocks_of(columns), threads, join_blocks, columns, blocks, found);
  check(cudaMemcpyAsync(moments, found, std::size_t(columns) * sizeof(Moments), cudaMemcpyDeviceToHost,
                        stream));
  check(cudaStreamSynchronize(stream));
}

}  // namespace gradstep
