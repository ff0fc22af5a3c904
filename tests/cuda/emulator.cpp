// The other half of include/cuda_runtime.h, and what tests ask of it.
#include <cuda_runtime.h>
#include <setjmp.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulated {
namespace {

constexpr std::size_t stack_bytes = 64 << 10, largest_argument = 32764;

enum class State { ready, at_barrier, at_warp, done };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  jmp_buf point;
  bool begun = false;
  State state = State::done;
  unsigned mask = 0;
  std::uint64_t values[2] = {};
  unsigned puts = 0;
};

std::mutex one_launch;
std::vector<Fiber> fibers;
unsigned current;
ucontext_t scheduler;
jmp_buf scheduler_point;
void (*thread_body)(const void*);
const void* thread_context;

// Told and asked by tests.
bool backwards = false, stubbed = false, broken_driver = false;
unsigned last_blocks = 0;  // 0: all of a launch
long launches = 0, waits = 0, stream_waits = 0;
void* last_stream = nullptr;
int device = 0;
std::map<std::uintptr_t, std::pair<std::size_t, int>> elsewhere;  // memory of another device than 0

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
std::size_t scheduler_bytes;
#endif

void back_to_scheduler() {
  Fiber& me = fibers[current];
#if defined(__SANITIZE_ADDRESS__)
  void* fake;
  __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_bytes);
  swapcontext(&me.context, &scheduler);
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_bytes);
#else
  if (!_setjmp(me.point)) _longjmp(scheduler_point, 1);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
  for (;;) {
    thread_body(thread_context);
    fibers[current].state = State::done;
    back_to_scheduler();
  }
}

// Lets a thread go on until it waits or ends.
void go_on(unsigned t) {
  Fiber& fiber = fibers[t];
  current = t, threadIdx = dim3(t);
  const bool first = !fiber.begun;
  if (first) {
    fiber.begun = true;
    fiber.stack.reset(new char[stack_bytes]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
#if defined(__SANITIZE_ADDRESS__)
  void* fake;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), stack_bytes);
  swapcontext(&scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  if (!_setjmp(scheduler_point)) {
    if (first)
      setcontext(&fiber.context);
    else
      _longjmp(fiber.point, 1);
  }
#endif
}

[[noreturn]] void give_up(const char* why) {
  std::fprintf(stderr, "CUDA on the CPU: %s (block %u, thread %u)\n", why, blockIdx.x, threadIdx.x);
  std::abort();
}

// Whether somebody may go on after all wait.
bool release(unsigned threads) {
  bool all_at_barrier = true, any = false;
  for (unsigned t = 0; t < threads; ++t)
    all_at_barrier &= fibers[t].state == State::at_barrier || fibers[t].state == State::done;
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    if (fiber.state == State::at_barrier && all_at_barrier) fiber.state = State::ready, any = true;
    if (fiber.state != State::at_warp) continue;
    const unsigned warp = t / 32 * 32;
    bool all_here = true;
    for (unsigned lane = 0; lane < 32; ++lane)
      if (fiber.mask >> lane & 1) {
        const bool there = warp + lane < threads;
        const bool arrived = there && fibers[warp + lane].puts >= fiber.puts;
        if (!arrived && (!there || fibers[warp + lane].state == State::done))
          give_up("a shuffle's mask names a thread that is not there");
        all_here &= arrived;
      }
    if (all_here) fiber.state = State::ready, any = true;
  }
  return any;
}

void run_block(unsigned threads) {
  for (unsigned t = 0; t < threads; ++t) fibers[t].state = State::ready, fibers[t].puts = 0;
  for (unsigned left = threads; left > 0;) {
    bool any = false;
    for (unsigned i = 0; i < threads; ++i) {
      const unsigned t = backwards ? threads - 1 - i : i;
      if (fibers[t].state != State::ready) continue;
      go_on(t);
      any = true;
      left -= fibers[t].state == State::done;
    }
    if (left && !release(threads) && !any) give_up("threads wait for one another for ever");
  }
}

}  // namespace

cudaError_t run(const cudaLaunchConfig_t& config, void (*thread)(const void*), const void* context,
                std::size_t argument_bytes) {
  const std::lock_guard lock(one_launch);
  if (argument_bytes > largest_argument) give_up("arguments larger than CUDA allows");
  if (config.gridDim.x == 0 || config.blockDim.x == 0 || config.blockDim.x > 1024) give_up("no such grid");
  ++launches;
  last_stream = config.stream;
  if (stubbed) return cudaSuccess;
  if (fibers.size() < 1024) fibers.resize(1024);
  thread_body = thread, thread_context = context;
  gridDim = config.gridDim, blockDim = config.blockDim;
  const unsigned begin = last_blocks && last_blocks < gridDim.x ? gridDim.x - last_blocks : 0;
  for (unsigned b = begin; b < gridDim.x; ++b) {
    blockIdx = dim3(backwards ? gridDim.x - 1 - b + begin : b);
    run_block(blockDim.x);
  }
  return cudaSuccess;
}

void wait_for_block() {
  fibers[current].state = State::at_barrier;
  back_to_scheduler();
}

void put(unsigned mask, std::uint64_t value) {
  Fiber& me = fibers[current];
  me.values[++me.puts % 2] = value;
  me.mask = mask, me.state = State::at_warp;
  back_to_scheduler();
}

// Nobody can be two puts ahead, for each waits for all.
std::uint64_t taken(unsigned lane) {
  return fibers[current / 32 * 32 + lane].values[fibers[current].puts % 2];
}

int device_of(const void* pointer) {
  const auto at = reinterpret_cast<std::uintptr_t>(pointer);
  const auto after = elsewhere.upper_bound(at);
  if (after == elsewhere.begin()) return 0;
  const auto& [begin, found] = *std::prev(after);
  return at < begin + found.first ? found.second : 0;
}

// A default stream is that of the current device, and orders nothing on another.
void on_current_device(const void* pointer) {
  if (device_of(pointer) != device) give_up("memory of another device than the current one");
}

}  // namespace emulated

using namespace emulated;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 256) / 256 * 256);
  if (device) elsewhere[reinterpret_cast<std::uintptr_t>(*memory)] = {bytes, device};
  std::memset(*memory, 0xa5, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  elsewhere.erase(reinterpret_cast<std::uintptr_t>(memory));
  return std::free(memory), cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int byte, std::size_t bytes) {
  on_current_device(memory);
  return std::memset(memory, byte, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t bytes, cudaStream_t stream) {
  last_stream = stream;
  return cudaMemset(memory, byte, bytes);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  on_current_device(kind == cudaMemcpyDeviceToHost ? from : to);
  ++waits;
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return ++waits, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return ++waits, cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return ++stream_waits, cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* which) { return *which = device, cudaSuccess; }
cudaError_t cudaSetDevice(int which) {
  if (which < 0 || which > 1) return cudaErrorInvalidDevice;
  return device = which, cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  if (broken_driver) return cudaErrorInsufficientDriver;
  return *count = 2, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "CPU");
  properties->major = properties->minor = 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  return *version = broken_driver ? 0 : CUDART_VERSION, cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {cudaMemoryTypeDevice, device_of(pointer)};
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInsufficientDriver ? "CUDA driver version is insufficient for CUDA runtime version"
                                              : "error of the emulator";
}

extern "C" {
#define EXPORTED __attribute__((visibility("default")))
EXPORTED void emulator_set_backwards(int on) { backwards = on; }
EXPORTED void emulator_set_stubbed(int on) { stubbed = on; }
EXPORTED void emulator_set_last_blocks(unsigned n) { last_blocks = n; }
EXPORTED void emulator_set_broken_driver(int on) { broken_driver = on; }
EXPORTED void emulator_place(void* memory, std::size_t bytes, int where) {
  elsewhere[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, where};
}
EXPORTED void emulator_forget_places() { elsewhere.clear(); }
EXPORTED long emulator_launches() { return launches; }
EXPORTED long emulator_waits() { return waits; }
EXPORTED long emulator_stream_waits() { return stream_waits; }
EXPORTED void* emulator_last_stream() { return last_stream; }
}
