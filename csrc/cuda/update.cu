// The pass that updates: constants of each array first, then every rule over every number format.
#include <string_view>
#include <utility>

#include "../gradient.h"
#include "../rules/all.h"
#include "elements.h"
#include "memory.h"
#include "sums.h"

namespace gradstep {
namespace {

template <class Rule, class T>
struct Constants {
  Prepared<Rule, T> prepared;
  bool apply;
};

// Arrays of a step, and after them the hyperparameters of their groups.
class Roster {
 public:
  struct Job {
    std::uint32_t slot;
    std::uint16_t hyper;  // number of its group's
    bool doubles, counts;
  };

  explicit Roster(int lr) : lr_(lr) {}

  __host__ __device__ std::uint32_t count() const { return count_; }
  __host__ __device__ int lr() const { return lr_; }  // which hyperparameter a device may hold; -1: none
  __host__ __device__ const Job& job(std::uint32_t k) const {
    return reinterpret_cast<const Job*>(bytes_)[k];
  }
  __host__ __device__ const Hyper& hyper(std::uint32_t k) const {
    return reinterpret_cast<const Hyper*>(bytes_ + sizeof bytes_)[-1 - std::int64_t(k)];
  }

  bool add(const Tensor& t) {
    const bool known = hypers_ && t.hyper == last_;
    const std::size_t needed = (count_ + 1) * sizeof(Job) + (hypers_ + !known) * sizeof(Hyper);
    if (needed > sizeof bytes_) return false;
    if (!known) {
      ++hypers_;
      new (bytes_ + sizeof bytes_ - hypers_ * sizeof(Hyper)) Hyper(*t.hyper);
      last_ = t.hyper;
    }
    new (bytes_ + count_ * sizeof(Job))
        Job{std::uint32_t(t.slot), std::uint16_t(hypers_ - 1), is_double(t.p_storage), t.g != nullptr};
    ++count_;
    return true;
  }

  void clear() { count_ = hypers_ = 0; }

 private:
  int lr_;
  std::uint32_t count_ = 0, hypers_ = 0;
  const Hyper* last_ = nullptr;  // of the host
  alignas(8) unsigned char bytes_[argument_bytes / 8 * 8 - 512];
};
static_assert(sizeof(Roster::Job) == 8 && sizeof(Roster) + 256 <= argument_bytes);

struct Decision {
  bool apply;
  double scale;
  Norm norm;
};

// Each thread decides for itself: the same lines over the same numbers.
__device__ Decision decide(const Status& status, const Wishes& wishes, bool doubles) {
  if (!wishes.surveys()) return {true, 1 / wishes.grad_scale, {0, 1}};
  const double unit = doubles ? unit_for(status.sum_sq[0]) : 1;
  const Norm norm{root(status.sum_sq[unit != 1]), unit};
  return {!status.odd || wishes.nonfinite == Nonfinite::propagate, norm.factor(wishes), norm};
}

__device__ void record(Status& status, const Decision& decision, const Wishes& wishes) {
  status.steps += decision.apply, status.skipped += !decision.apply;
  status.applied = decision.apply;
  if (!wishes.surveys()) return;
  status.norm_taken = 1;
  status.grad_norm = decision.norm.over(wishes.grad_scale);
}

template <template <class> class R, class T>
__device__ void write_constants(const Hyper& hyper, std::int64_t step, const Extras& extras, bool apply,
                                void* constants) {
  static_assert(sizeof(Constants<R<T>, T>) <= constants_bytes);
  typename R<T>::Hyper own;
  memcpy(&own, hyper.rule, sizeof own);
  new (constants) Constants<R<T>, T>{{R<T>(own, step), Gradient<T>(hyper, extras)}, apply};
}

template <template <class> class R>
__global__ void __launch_bounds__(threads) prepare(const Roster __grid_constant__ roster, Wishes wishes,
                                                   bool doubles, bool first, DeviceMemory memory) {
  const std::uint32_t k = blockIdx.x * threads + threadIdx.x;
  const Decision decision = decide(*memory.status, wishes, doubles);
  if (first && k == 0) record(*memory.status, decision, wishes);
  if (k >= roster.count()) return;
  const Roster::Job& job = roster.job(k);
  Hyper hyper = roster.hyper(job.hyper);
  if (hyper.lr && roster.lr() >= 0) hyper.rule[roster.lr()] = *hyper.lr;
  std::int64_t& count = memory.counts[job.slot];
  unsigned char* const constants = memory.constants + std::int64_t(job.slot) * constants_bytes;
  const Extras extras{decision.scale, wishes.clip_value};
  if (job.doubles)
    write_constants<R, double>(hyper, count + 1, extras, decision.apply, constants);
  else
    write_constants<R, float>(hyper, count + 1, extras, decision.apply, constants);
  count += decision.apply && job.counts;
}

// What a launch does beside the rule.
struct Beside {
  double average_decay;
  bool zero_grads, health;
};

// The elements of a tile that a thread has: neighbours as one pack, or so many apart.
template <class T>
struct Reach {
  std::int64_t first, apart, end;

  __device__ std::int64_t at(int j) const { return first + j * apart; }
  __device__ bool has(int j) const { return at(j) < end; }
};

template <bool packed, class T, int n>
__device__ __forceinline__ void take(const Reach<T>& reach, Storage storage, const void* array,
                                     const std::int64_t (&at)[n], T (&x)[n]) {
  if constexpr (packed) {
    load<T>(storage, array, reach.first, x);
  } else {
#pragma unroll
    for (int j = 0; j < n; ++j) x[j] = reach.has(j) ? element<T>(storage, array, at[j]) : T(0);
  }
}

template <bool packed, class T, int n>
__device__ __forceinline__ void give(const Reach<T>& reach, Storage storage, void* array,
                                     const std::int64_t (&at)[n], const T (&x)[n]) {
  if constexpr (packed) {
    store<T>(storage, array, reach.first, x);
  } else {
#pragma unroll
    for (int j = 0; j < n; ++j)
      if (reach.has(j)) set_element(storage, array, at[j], x[j]);
  }
}

// Updates a thread's elements. `before` and `after` are what health compares.
template <bool packed, class Rule, class T, int states, int n, std::size_t... k>
__device__ __forceinline__ void step(const Constants<Rule, T>& constants, const Entry<states>& e,
                                     const More* more, const Beside& beside, const Reach<T>& reach,
                                     T (&before)[n], T (&after)[n], std::index_sequence<k...>) {
  std::int64_t p_at[n], g_at[n], s_at[n];
  if constexpr (!packed)
    for (int j = 0; j < n; ++j) {
      const Whereabouts w = whereabouts(more, reach.at(j));
      p_at[j] = w.p, g_at[j] = w.g, s_at[j] = reach.at(j);
    }
  const T zeros[n] = {};
  if (!constants.apply) {
    if (e.g && beside.zero_grads) give<packed>(reach, e.g_storage, e.g, g_at, zeros);
    return;
  }
  void* const master = more ? more->master : nullptr;
  T p[n];
  if (master && e.g)
    take<packed>(reach, own_storage<T>, master, s_at, p);
  else
    take<packed>(reach, e.p_storage, e.p, p_at, p);
  if (e.g) {
    T g[n], s[states ? states : 1][n];
    take<packed>(reach, e.g_storage, e.g, g_at, g);
    (take<packed>(reach, own_storage<T>, e.s[k], s_at, s[k]), ...);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      before[j] = p[j];
      constants.prepared(p[j], g[j], s[k][j]...);
    }
    if (master) give<packed>(reach, own_storage<T>, master, s_at, p);
    give<packed>(reach, e.p_storage, e.p, p_at, p);
    (give<packed>(reach, own_storage<T>, e.s[k], s_at, s[k]), ...);
    if (beside.zero_grads) give<packed>(reach, e.g_storage, e.g, g_at, zeros);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const T stored = rounded(e.p_storage, p[j]);
      after[j] = !packed && !reach.has(j) ? before[j] : master ? p[j] : stored;
      p[j] = stored;
    }
  }
  if (more && more->average) {
    T average[n];
    const Average<T> rule({beside.average_decay}, 1);
    take<packed>(reach, own_storage<T>, more->average, s_at, average);
#pragma unroll
    for (int j = 0; j < n; ++j) rule(average[j], p[j]);
    give<packed>(reach, own_storage<T>, more->average, s_at, average);
  }
}

// The norm of a tile, of which each thread has `n` elements; every thread gets it.
template <class T, int n>
__device__ double tile_norm(const T (&a)[n], const T (&b)[n]) {
  __shared__ double sums[threads];
  const auto sum_sq = [&](double scale) {
    double own = 0;
    for (int j = 0; j < n; ++j) {
      const double x = (double(a[j]) - double(b[j])) * scale;
      own += x * x;
    }
    sums[threadIdx.x] = own;
    __syncthreads();
    for (int width = threads / 2; width > 0; width /= 2) {
      if (int(threadIdx.x) < width) sums[threadIdx.x] += sums[threadIdx.x + width];
      __syncthreads();
    }
    const double sum = sums[0];
    __syncthreads();
    return sum;
  };
  const double plain = sum_sq(1), unit = sizeof(T) == 8 ? unit_for(plain) : 1;
  return root(unit == 1 ? plain : sum_sq(1 / unit)) * unit;
}

template <int states>
__device__ bool lies_on_lines(const Entry<states>& e, const More* more) {
  bool all = on_lines(e.p) && (!e.g || on_lines(e.g));
#pragma unroll
  for (int k = 0; k < states; ++k) all = all && on_lines(e.s[k]);
  return all && (!more || (!more->dims && on_lines(more->master) && on_lines(more->average)));
}

template <template <class> class R, class T>
__global__ void __launch_bounds__(threads)
    sweep(const Table<int(R<T>::states.size())> __grid_constant__ table, Beside beside, DeviceMemory memory) {
  constexpr int states = int(R<T>::states.size()), n = pack<T>;
  const Entry<states>& e = table.find(blockIdx.x);
  const More* const more = table.more(e);
  const auto constants =
      *reinterpret_cast<const Constants<R<T>, T>*>(memory.constants + std::int64_t(e.slot) * constants_bytes);
  constexpr auto every_state = std::make_index_sequence<states>{};
  const bool lines = lies_on_lines(e, more);
  const std::int64_t part = std::int64_t(blockIdx.x - e.first) * part_elements;
  const std::int64_t end = part + part_elements < e.n ? part + part_elements : e.n;
  constexpr std::int64_t stride = elements_of_a_change(sizeof(T) == 8);
  static_assert(stride == threads * n);
  for (std::int64_t at = part; at < end; at += stride) {
    T before[n] = {}, after[n] = {};
    const std::int64_t own = at + threadIdx.x * n;
    if (lines && own + n <= end)
      step<true, R<T>, T>(constants, e, more, beside, Reach<T>{own, 1, end}, before, after, every_state);
    else if (lines)
      step<false, R<T>, T>(constants, e, more, beside, Reach<T>{own, 1, end}, before, after, every_state);
    else
      step<false, R<T>, T>(constants, e, more, beside, Reach<T>{at + threadIdx.x, threads, end}, before,
                           after, every_state);
    if (!beside.health || !e.g) continue;
    const T zeros[n] = {};
    const Change change{tile_norm(after, before), tile_norm(before, zeros)};
    if (threadIdx.x == 0) memory.changes[2 * std::int64_t(e.chunk) + at / stride] = change;
  }
}

template <template <class> class R>
constexpr int index_of_lr() {
  for (int k = 0; k < int(R<float>::hypers.size()); ++k)
    if (std::string_view(R<float>::hypers[k]) == "lr") return k;
  return -1;
}

template <template <class> class R>
void prepare_all(std::span<const Tensor> tensors, const Wishes& wishes, bool doubles,
                 const DeviceMemory& memory, cudaStream_t stream) {
  Roster roster(index_of_lr<R>());
  bool first = true;
  const auto send = [&] {
    launch(stream, roster.count() / threads + 1, threads, prepare<R>, roster, wishes, doubles, first, memory);
    first = false;
  };
  for (const Tensor& t : tensors) {
    if (roster.add(t)) continue;
    send();
    roster.clear();
    roster.add(t);
  }
  send();
}

template <template <class> class R, class T>
void sweep_all(std::span<const Tensor> tensors, const Beside& beside, const DeviceMemory& memory,
               cudaStream_t stream) {
  const auto wanted = [](const Tensor& t) { return is_double(t.p_storage) == (sizeof(T) == 8); };
  in_tables<int(R<T>::states.size())>(tensors, part_elements, wanted, [&](const auto& table) {
    launch(stream, table.parts(), threads, sweep<R, T>, table, beside, memory);
  });
}

template <template <class> class R>
void update_by(std::span<const Tensor> tensors, const Wishes& wishes, bool doubles,
               const DeviceMemory& memory, cudaStream_t stream) {
  prepare_all<R>(tensors, wishes, doubles, memory, stream);
  const Beside beside{wishes.average_decay, wishes.zero_grads, wishes.health};
  sweep_all<R, float>(tensors, beside, memory, stream);
  sweep_all<R, double>(tensors, beside, memory, stream);
}

template <class L>
struct Updates;
template <template <class> class... R>
struct Updates<List<R...>> {
  static constexpr decltype(&update_by<GradientDescent>) list[] = {update_by<R>...};
};

}  // namespace

void update(int rule, std::span<const Tensor> tensors, const Wishes& wishes, bool doubles,
            const DeviceMemory& memory, cudaStream_t stream) {
  Updates<Rules>::list[rule](tensors, wishes, doubles, memory, stream);
}

}  // namespace gradstep
