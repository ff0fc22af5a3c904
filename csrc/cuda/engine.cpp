// Whole steps on a GPU: launches on the user's stream, and no wait for any of them.
#include <algorithm>
#include <functional>

#include "memory.h"

namespace gradstep {
namespace {

// Places for several arrays in one allocation.
class Places {
 public:
  template <class T>
  void add(T*& at, std::int64_t n) {
    const std::int64_t here = bytes_;
    bytes_ += (n * std::int64_t(sizeof(T)) + 255) / 256 * 256;
    set_.push_back([&at, here](unsigned char* base) { at = reinterpret_cast<T*>(base + here); });
  }
  std::int64_t bytes() const { return bytes_; }
  void put(unsigned char* base) const {
    for (const auto& set : set_) set(base);
  }

 private:
  std::int64_t bytes_ = 0;
  std::vector<std::function<void(unsigned char*)>> set_;
};

template <class T>
std::vector<T> read(const T* from, std::int64_t n) {
  std::vector<T> host(n);
  check(cudaDeviceSynchronize());  // on whatever stream steps went
  check(cudaMemcpy(host.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

}  // namespace

struct Engine::Memory {
  int device;
  std::int64_t slots, chunks = 0;
  DeviceMemory on_device{};
  unsigned char* allocation = nullptr;
  std::span<const Tensor> tensors;   // of the present step
  std::vector<std::int64_t> active;  // slots of the last step with health
  std::string failure;

  Outcome step(int rule, const Wishes& wishes, cudaStream_t stream);
  void survey(const Wishes& wishes, bool doubles, cudaStream_t stream);
  void own_norms(bool doubles, cudaStream_t stream);
};

Engine::Engine(std::vector<std::int64_t> capacity, int device) : memory_(std::make_unique<Memory>()) {
  Memory& m = *memory_;
  m.device = device;
  m.slots = std::int64_t(capacity.size());
  for (const std::int64_t n : capacity) m.chunks += pieces(n, tile_elements);
  Places places;
  DeviceMemory& d = m.on_device;
  places.add(d.status, 1);
  places.add(d.counts, m.slots);
  places.add(d.constants, m.slots * constants_bytes);
  places.add(d.own_sum_sq, 2 * m.slots);
  places.add(d.health, m.slots);
  places.add(d.chunks, m.chunks);
  places.add(d.rescaled, m.chunks);
  places.add(d.terms, m.chunks + 1);
  places.add(d.changes, m.chunks);
  const OnDevice there(device);
  check(cudaMalloc(&m.allocation, std::size_t(places.bytes())));
  places.put(m.allocation);
  check(cudaMemset(m.allocation, 0, std::size_t(places.bytes())));
  check(cudaDeviceSynchronize());  // before a stream that does not wait for the default one
}

Engine::~Engine() { cudaFree(memory_->allocation); }

Outcome Engine::step(int rule, std::span<Tensor> tensors, const Wishes& wishes, void* stream) noexcept {
  try {
    const OnDevice there(memory_->device);
    memory_->tensors = tensors;
    return memory_->step(rule, wishes, static_cast<cudaStream_t>(stream));
  } catch (const std::exception& e) {
    memory_->failure = e.what();
    return Outcome::failed;
  }
}

Outcome Engine::Memory::step(int rule, const Wishes& wishes, cudaStream_t stream) {
  const bool doubles =
      std::ranges::any_of(tensors, [](const Tensor& t) { return t.g && is_double(t.g_storage); });
  if (wishes.surveys()) survey(wishes, doubles, stream);
  if (wishes.nonfinite == Nonfinite::raise) {
    Status status;
    check(cudaMemcpyAsync(&status, on_device.status, sizeof status, cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));
    if (status.odd) {
      status.norm_taken = 1;
      status.grad_norm = norm_of_sums(status.sum_sq, doubles).over(wishes.grad_scale);
      check(cudaMemcpyAsync(on_device.status, &status, sizeof status, cudaMemcpyHostToDevice, stream));
      check(cudaStreamSynchronize(stream));
      return Outcome::skipped;
    }
  }
  if (wishes.health) own_norms(doubles, stream);
  update(rule, tensors, wishes, doubles, on_device, stream);
  if (wishes.health) examine(tensors, wishes, on_device, stream);
  return Outcome::applied;
}

void Engine::Memory::survey(const Wishes& wishes, bool doubles, cudaStream_t stream) {
  const std::int64_t read = tensors.empty() ? 0 : tensors.back().first_chunk + tensors.back().chunks();
  check(cudaMemsetAsync(&on_device.status->odd, 0, sizeof on_device.status->odd, stream));
  gradstep::survey(tensors, Unit::one, wishes.health, on_device, stream);
  total(read, false, on_device, stream);
  if (!doubles) return;
  gradstep::survey(tensors, Unit::global, false, on_device, stream);
  total(read, true, on_device, stream);
}

void Engine::Memory::own_norms(bool doubles, cudaStream_t stream) {
  active.clear();
  for (const Tensor& t : tensors)
    if (t.g) active.push_back(t.slot);
  total_each(tensors, false, on_device, stream);
  if (!doubles) return;
  gradstep::survey(tensors, Unit::own, false, on_device, stream);
  total_each(tensors, true, on_device, stream);
}

Tally Engine::tally() const {
  const OnDevice there(memory_->device);
  const Status status = read(memory_->on_device.status, 1)[0];
  Tally tally{status.steps, status.skipped, {}};
  if (status.norm_taken) tally.grad_norm = status.grad_norm;
  return tally;
}

std::vector<std::int64_t> Engine::counts() const {
  const OnDevice there(memory_->device);
  return read(memory_->on_device.counts, memory_->slots);
}

void Engine::set_counts(std::int64_t steps, std::int64_t skipped, const std::vector<std::int64_t>& counts) {
  const OnDevice there(memory_->device);
  Status status = read(memory_->on_device.status, 1)[0];
  status.steps = steps, status.skipped = skipped;
  check(cudaMemcpy(memory_->on_device.status, &status, sizeof status, cudaMemcpyHostToDevice));
  check(cudaMemcpy(memory_->on_device.counts, counts.data(), counts.size() * sizeof counts[0],
                   cudaMemcpyHostToDevice));
  check(cudaDeviceSynchronize());  // a copy from pageable memory may return before it is done
}

Health Engine::health() const {
  const OnDevice there(memory_->device);
  const auto rows = read(memory_->on_device.health, memory_->slots);
  Health health{read(memory_->on_device.status, 1)[0].health_applied != 0, {}};
  for (const std::int64_t slot : memory_->active) {
    health.arrays.push_back(rows[slot]);
    health.arrays.back().slot = slot;  // that of an empty array was never written
  }
  return health;
}

std::pair<std::int64_t, bool> Engine::culprit() const {
  const OnDevice there(memory_->device);
  const auto chunks = read(memory_->on_device.chunks, memory_->chunks);
  for (const Tensor& t : memory_->tensors)
    for (std::int64_t c = t.first_chunk; c < t.first_chunk + t.chunks(); ++c)
      if (!chunks[c].finite) return {t.slot, chunks[c].nans > 0};
  return {0, false};
}

std::string Engine::failure() const { return memory_->failure; }

}  // namespace gradstep
