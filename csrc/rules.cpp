#include "backend.h"
#include "rules/all.h"

namespace gradstep {
namespace {

template <class L>
struct Infos;
template <template <class> class... R>
struct Infos<List<R...>> {
  static constexpr RuleInfo list[] = {{R<float>::name, R<float>::hypers, R<float>::states}...};
  static_assert(((R<float>::hypers.size() <= max_hypers && R<float>::states.size() <= max_states) && ...));
  static_assert(((R<float>::hypers.empty() ||
                  sizeof(typename R<float>::Hyper) == sizeof(double) * R<float>::hypers.size()) &&
                 ...),
                "a rule names each of its hyperparameters");
};

}  // namespace

std::span<const RuleInfo> rules() { return Infos<Rules>::list; }

}  // namespace gradstep
