// Every update rule. A new one is its own file and one more name in this list.
#pragma once
#include "adagrad.h"
#include "adam.h"
#include "adamw.h"
#include "average.h"
#include "copy.h"
#include "gradient_descent.h"
#include "momentum.h"
#include "nag.h"
#include "sgd.h"

namespace gradstep {

template <template <class> class... R>
struct List {};

using Rules = List<GradientDescent, SGD, Momentum, NAG, Adagrad, Adam, AdamW, Average, Copy>;

}  // namespace gradstep
