// The pass that updates: constants of each array first, then every rule over every number format.
#include <string_view>
#include <utility>

#include "../gradient.h"
#include "../rules/all.h"
#include "elements.h"
#include "memory.h"

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
  const Norm norm = norm_of_sums(status.sum_sq, doubles);
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
__global__ void __launch_bounds__(threads, 4) prepare(const Roster __grid_constant__ roster, Wishes wishes,
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

// `n` neighbours, or one.
template <class T, int n>
__device__ __forceinline__ void take(Storage storage, const void* array, std::int64_t at, T (&x)[n]) {
  if constexpr (n == 1)
    x[0] = element<T>(storage, array, at);
  else
    load<T>(storage, array, at, x);
}

template <class T, int n>
__device__ __forceinline__ void give(Storage storage, void* array, std::int64_t at, const T (&x)[n]) {
  if constexpr (n == 1)
    set_element(storage, array, at, x[0]);
  else
    store<T>(storage, array, at, x);
}

// The norm of numbers one by one. Squares of doubles may leave the range of doubles: they are taken in units
// of the greatest so far.
template <class T>
class Length {
 public:
  __device__ void add(double x) {
    if constexpr (sizeof(T) == 4) {
      sum_sq_ += x * x;
    } else {
      const double size = x < 0 ? -x : x;
      if (size == 0) return;
      const double ratio = size == most_  ? 1
                           : size > most_ ? most_ / size
                                          : size / most_;  // inf / inf is none
      sum_sq_ = size > most_ ? 1 + sum_sq_ * (ratio * ratio) : sum_sq_ + ratio * ratio;
      most_ = size > most_ ? size : most_;
    }
  }
  __device__ double value() const { return sizeof(T) == 4 ? root(sum_sq_) : root(sum_sq_) * most_; }

 private:
  double most_ = 0, sum_sq_ = 0;
};

// How far a thread's elements have moved, and how large they were.
template <class T>
struct Motion {
  Length<T> update, weight;
};

// Updates `n` neighbours of a tensor that is one run of memory, or one element of any.
template <int n, class Rule, class T, int states, std::size_t... k>
__device__ __forceinline__ void step(const Constants<Rule, T>& constants, const Entry<states>& e,
                                     const More* more, const Beside& beside, std::int64_t at,
                                     Motion<T>& motion, std::index_sequence<k...>) {
  Whereabouts place{at, at};
  if constexpr (n == 1) place = whereabouts(more, at);
  const T zeros[n] = {};
  if (!constants.apply) {
    if (e.g && beside.zero_grads) give(e.g_storage, e.g, place.g, zeros);
    return;
  }
  void* const master = more ? more->master : nullptr;
  T p[n];
  if (master && e.g)
    take(own_storage<T>, master, at, p);
  else
    take(e.p_storage, e.p, place.p, p);
  if (e.g) {
    T g[n], s[states ? states : 1][n], before[n];
    take(e.g_storage, e.g, place.g, g);
    (take(own_storage<T>, e.s[k], at, s[k]), ...);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      before[j] = p[j];
      constants.prepared(p[j], g[j], s[k][j]...);
    }
    if (master) give(own_storage<T>, master, at, p);
    give(e.p_storage, e.p, place.p, p);
    (give(own_storage<T>, e.s[k], at, s[k]), ...);
    if (beside.zero_grads) give(e.g_storage, e.g, place.g, zeros);
    for (int j = 0; j < n; ++j) {
      const T stored = rounded(e.p_storage, p[j]);
      if (beside.health) {
        motion.update.add(double(master ? p[j] : stored) - double(before[j]));
        motion.weight.add(before[j]);
      }
      p[j] = stored;
    }
  }
  if (more && more->average) {
    T average[n];
    const Average<T> rule({beside.average_decay}, 1);
    take(own_storage<T>, more->average, at, average);
#pragma unroll
    for (int j = 0; j < n; ++j) rule(average[j], p[j]);
    give(own_storage<T>, more->average, at, average);
  }
}

template <int states>
__device__ bool lies_on_lines(const Entry<states>& e, const More* more) {
  bool all = on_lines(e.p) && (!e.g || on_lines(e.g));
#pragma unroll
  for (int k = 0; k < states; ++k) all = all && on_lines(e.s[k]);
  return all && (!more || (!more->dims && on_lines(more->master) && on_lines(more->average)));
}

template <template <class> class R, class T>
__global__ void __launch_bounds__(threads, 4)
    sweep(const Table<int(R<T>::states.size())> __grid_constant__ table, Beside beside, DeviceMemory memory) {
  constexpr int states = int(R<T>::states.size()), n = pack<T>;
  const Entry<states>& e = table.find(blockIdx.x);
  const More* const more = table.more(e);
  const auto constants =
      *reinterpret_cast<const Constants<R<T>, T>*>(memory.constants + std::int64_t(e.slot) * constants_bytes);
  constexpr auto every_state = std::make_index_sequence<states>{};
  const bool lines = lies_on_lines(e, more), packs = lines || beside.health;
  const std::int64_t part = blockIdx.x - e.first, begin = part * part_elements;
  const std::int64_t end = begin + part_elements < e.n ? begin + part_elements : e.n;
  Motion<T> motion;
  ROLLED
  for (std::int64_t at = begin; at < end; at += threads * n) {
    const std::int64_t own = at + threadIdx.x * n;
    if (lines && own + n <= end) {
      step<n>(constants, e, more, beside, own, motion, every_state);
      continue;
    }
    // The last few one by one; of what does not lie on lines, neighbouring threads have neighbours, but where
    // sums are taken, which do not depend on that.
    const std::int64_t first = packs ? own : at + threadIdx.x, apart = packs ? 1 : threads;
    ROLLED
    for (int j = 0; j < n; ++j)
      if (const std::int64_t one = first + j * apart; one < end)
        step<1>(constants, e, more, beside, one, motion, every_state);
  }
  if (!beside.health || !e.g) return;
  __shared__ Change found[threads];
  found[threadIdx.x] = {motion.update.value(), motion.weight.value()};
  __syncthreads();
  if (threadIdx.x == 0)
    memory.changes[e.chunk + part] = {norm_of_norms(found, threads, &Change::update),
                                      norm_of_norms(found, threads, &Change::weight)};
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
