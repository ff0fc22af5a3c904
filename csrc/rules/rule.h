// What update rules are written with. A rule is a struct of hyperparameters, already rounded to the type it
// computes in, with one branch-free operator(): no loop, no number format, no device.
#pragma once
#include <array>
#include <cstdint>

#ifdef __CUDACC__
#define HD __host__ __device__ __forceinline__
#define ROLLED _Pragma("unroll 1")  // nvcc would unroll loops that run seldom
#else
#define HD inline __attribute__((always_inline))
#define ROLLED
#endif

namespace gradstep {

template <std::size_t n>
using Names = std::array<const char*, n>;

HD float root(float x) { return __builtin_sqrtf(x); }
HD double root(double x) { return __builtin_sqrt(x); }

// beta^n by repeated squaring: libm's pow differs from one machine to the next, this does not.
HD double power(double beta, std::int64_t n) {
  double result = 1;
  for (; n > 0; n >>= 1) {
    if (n & 1) result *= beta;
    beta *= beta;
  }
  return result;
}

}  // namespace gradstep
