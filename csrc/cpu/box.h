// Bounds of each variable: the generalised Cauchy point, and the minimum of the model in the subspace of the
// variables that are free there.
//
// R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, "A limited memory algorithm for bound constrained optimization",
// SIAM Journal on Scientific Computing 16 (1995), 1190-1208; the projection at the end as in J. L. Morales
// and J. Nocedal, "Remark on Algorithm 778", ACM Transactions on Mathematical Software 38 (2011).
#pragma once
#include "../lbfgs.h"

namespace gradstep {

// `lower` and `upper` are copied; infinities are no bounds.
std::unique_ptr<Region> make_box(std::span<const double> lower, std::span<const double> upper,
                                 double precision);

}  // namespace gradstep
