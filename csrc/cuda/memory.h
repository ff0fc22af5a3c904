// What an engine keeps on its device, and the launches it is made of.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>

#include "../backend.h"
#include "../norm.h"

namespace gradstep {

struct Status {
  std::int64_t steps, skipped;
  double sum_sq[2];  // of all gradients; and once more in `unit_for` of the first, where doubles need it
  std::int32_t odd;  // a gradient is not finite
  std::int32_t norm_taken, applied, health_applied;
  double grad_norm;
};

// Addresses on the device. A slot is an array of the plan; chunks are counted through a call.
struct DeviceMemory {
  Status* status;
  std::int64_t* counts;      // a slot each
  unsigned char* constants;  // likewise: the rule with its hyperparameters, rounded
  double* own_sum_sq;        // two of each slot: of its gradient, and once more in `unit_for` of the first
  ArrayHealth* health;       // a slot each
  Chunk* chunks;
  double* rescaled;  // sums of squares in another unit, a chunk each
  double* terms;     // likewise: room to sum in
  Change* changes;   // a part each, from its tensor's first chunk on
};

inline constexpr int constants_bytes = 128, threads = 128, total_threads = 1024;
inline constexpr std::int64_t part_elements = 4 * tile_elements;

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// The device of a plan's arrays is the current one meanwhile.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_));
    if (device != before_) check(cudaSetDevice(device));
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, std::uint32_t blocks, int threads, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks), config.blockDim = dim3(unsigned(threads));
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...));
}

// Which sums of squares the unit of a survey follows from: none, that of all gradients, that of each its own.
enum class Unit { one, global, own };

// Reads all gradients: chunks in the first unit, else `rescaled`.
void survey(std::span<const Tensor> tensors, Unit unit, bool counted, const DeviceMemory& memory,
            cudaStream_t stream);
// Sums the squares of all gradients to status, or each array's to its own.
void total(std::int64_t chunks, bool rescaled, const DeviceMemory& memory, cudaStream_t stream);
void total_each(std::span<const Tensor> tensors, bool rescaled, const DeviceMemory& memory,
                cudaStream_t stream);
// Turns chunks and changes into a row of health for each array that has a gradient.
void examine(std::span<const Tensor> tensors, const Wishes& wishes, const DeviceMemory& memory,
             cudaStream_t stream);
// Decides, counts, rounds constants; then updates.
void update(int rule, std::span<const Tensor> tensors, const Wishes& wishes, bool doubles,
            const DeviceMemory& memory, cudaStream_t stream);

}  // namespace gradstep
