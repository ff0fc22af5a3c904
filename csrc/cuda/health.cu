// What health tells of each array: a block to an array.
#include "elements.h"
#include "memory.h"
#include "sums.h"

namespace gradstep {
namespace {

__device__ std::int64_t chunks_of(const Entry<0>& e) { return pieces(e.n, tile_elements); }

// A thread's share of so many things in a row.
struct Share {
  std::int64_t first, end;

  __device__ explicit Share(std::int64_t n) {
    const std::int64_t each = pieces(n, threads);
    first = threadIdx.x * each < n ? threadIdx.x * each : n;
    end = first + each < n ? first + each : n;
  }
};

__global__ void __launch_bounds__(threads, 4)
    total_own(const Table<0> __grid_constant__ table, bool rescaled, DeviceMemory memory) {
  const Entry<0>& e = table.entry(blockIdx.x);
  const auto term = [&](std::int64_t i) {
    return rescaled ? memory.rescaled[e.chunk + i] : memory.chunks[e.chunk + i].sum_sq;
  };
  const double sum = block_sum(chunks_of(e), term, memory.terms + e.chunk);
  if (threadIdx.x == 0) memory.own_sum_sq[2 * e.slot + rescaled] = sum;
}

__device__ void join(ArrayHealth& a, double max_abs, std::int64_t zeros, std::int64_t nans,
                     std::int64_t infs) {
  a.max_abs = greater(a.max_abs, max_abs);
  a.zeros += zeros, a.nans += nans, a.infs += infs;
}

__global__ void __launch_bounds__(threads, 4)
    examine_array(const Table<0> __grid_constant__ table, double grad_scale, DeviceMemory memory) {
  const Entry<0>& e = table.entry(blockIdx.x);
  __shared__ ArrayHealth found[threads];
  ArrayHealth& mine = found[threadIdx.x];
  mine = {};
  const Share chunks(chunks_of(e)), parts(pieces(e.n, part_elements));
  const Chunk* const c = memory.chunks + e.chunk;
  ROLLED
  for (std::int64_t i = chunks.first; i < chunks.end; ++i)
    join(mine, c[i].max_abs, c[i].zeros, c[i].nans, c[i].infs);
  const Change* const moved = memory.changes + e.chunk + parts.first;
  mine.update = norm_of_norms(moved, parts.end - parts.first, &Change::update);
  mine.weight = norm_of_norms(moved, parts.end - parts.first, &Change::weight);
  __syncthreads();
  if (threadIdx.x != 0) return;
  ArrayHealth all{};
  ROLLED
  for (const ArrayHealth& part : found) join(all, part.max_abs, part.zeros, part.nans, part.infs);
  all.slot = e.slot;
  all.norm = norm_of_sums(memory.own_sum_sq + 2 * e.slot, is_double(e.g_storage)).over(grad_scale);
  all.max_abs /= grad_scale;
  all.update = norm_of_norms(found, threads, &ArrayHealth::update);
  all.weight = norm_of_norms(found, threads, &ArrayHealth::weight);
  memory.health[e.slot] = all;
  memory.status->health_applied = memory.status->applied;
}

bool has_gradient(const Tensor& t) { return t.g; }

}  // namespace

void total_each(std::span<const Tensor> tensors, bool rescaled, const DeviceMemory& memory,
                cudaStream_t stream) {
  in_tables<0>(tensors, part_elements, has_gradient, [&](const Table<0>& table) {
    launch(stream, table.count(), threads, total_own, table, rescaled, memory);
  });
}

void examine(std::span<const Tensor> tensors, const Wishes& wishes, const DeviceMemory& memory,
             cudaStream_t stream) {
  in_tables<0>(tensors, part_elements, has_gradient, [&](const Table<0>& table) {
    launch(stream, table.count(), threads, examine_array, table, wishes.grad_scale, memory);
  });
}

}  // namespace gradstep
