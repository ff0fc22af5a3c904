// CUDA on the CPU, as much as csrc/cuda needs: a launch runs its blocks one after the other, and the threads
// of a block as fibers that really wait for each other at barriers and shuffles. For tests only.
#pragma once
#include <ucontext.h>

#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__ &

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidDevice = 101, cudaErrorInsufficientDriver = 35 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice };
inline constexpr unsigned cudaEventDisableTiming = 2;
#define CUDART_VERSION 13000

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaDeviceProp {
  char name[256];
  int major, minor;
};

cudaError_t cudaMalloc(void** memory, std::size_t bytes);
template <class T>
cudaError_t cudaMalloc(T** memory, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemset(void* memory, int byte, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);

// What a kernel sees.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

// Runs `thread(context)` once for each thread of the launch.
cudaError_t run(const cudaLaunchConfig_t& config, void (*thread)(const void* context), const void* context,
                std::size_t argument_bytes);
void wait_for_block();
// Puts a value down where the others of the warp see it, and waits for those in the mask.
void put(unsigned mask, std::uint64_t value);
std::uint64_t taken(unsigned lane);  // what that lane has put down last

}  // namespace emulated

inline void __syncthreads() { emulated::wait_for_block(); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof value);
  emulated::put(mask, word);
  word = emulated::taken(unsigned(lane) % 32);
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  const unsigned lane = threadIdx.x % 32;
  return __shfl_sync(mask, value, int(lane + by < 32 ? lane + by : lane));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with) {
  return __shfl_sync(mask, value, int(threadIdx.x % 32) ^ with);
}
inline int __any_sync(unsigned mask, int predicate) {
  emulated::put(mask, predicate != 0);
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && emulated::taken(lane)) return 1;
  return 0;
}

inline double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const auto thread = [&] { kernel(arguments...); };
  return emulated::run(
      *config, [](const void* context) { (*static_cast<decltype(thread)*>(context))(); }, &thread,
      (sizeof(arguments) + ... + 0));
}
