// Random numbers as functions of where they are used: the same on every device, whatever the threads.
#pragma once
#include <cstdint>

#include "storage.h"

namespace gradstep {

struct Words {
  std::uint32_t w[4];
};

// Philox4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011.
HD Words philox(Words counter, std::uint64_t seed) {
  auto k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
  const std::uint32_t* const c = counter.w;
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    const std::uint64_t a = std::uint64_t(0xd2511f53u) * c[0], b = std::uint64_t(0xcd9e8d57u) * c[2];
    counter = Words{{std::uint32_t(b >> 32) ^ c[1] ^ k0, std::uint32_t(b), std::uint32_t(a >> 32) ^ c[3] ^ k1,
                     std::uint32_t(a)}};
  }
  return counter;
}

// What numbers are drawn for; no two uses share any.
enum class Use : std::uint32_t { replacing, shuffling, placing, noise };

inline constexpr std::uint32_t most_epochs = 1u << 30;

// The numbers of a seed and an epoch, at positions within that.
struct Draws {
  std::uint64_t seed;
  std::uint32_t epoch;

  HD Words at(Use use, std::uint64_t position, std::uint32_t block = 0) const {
    return philox(
        {{block, epoch * 4 + std::uint32_t(use), std::uint32_t(position), std::uint32_t(position >> 32)}},
        seed);
  }
};

// A permutation of [0, n): a Feistel network on the bits that n - 1 has, walked from a number until it lands
// below n. With 24 rounds also the permutations of few numbers are equally frequent: R. Mitchell, D. Stokes,
// E. Frank and G. Holmes, "Bandwidth-optimal random shuffling for GPUs", ACM TOPC 9 (2022).
class Permutation {
 public:
  Permutation(std::uint64_t n, const Draws& draws) : n_(n) {
    while (low_ + high_ < 63 && (n - 1) >> (low_ + high_)) ++(low_ > high_ ? high_ : low_);
    for (int k = 0; k < rounds; k += 4) {
      const Words words = draws.at(Use::shuffling, std::uint64_t(k / 4));
      for (int j = 0; j < 4; ++j) keys_[k + j] = words.w[j];
    }
  }

  static constexpr int rounds = 24;

  HD std::uint64_t n() const { return n_; }
  HD int low() const { return low_; }
  HD std::uint32_t high_bits() const { return std::uint32_t((std::uint64_t(1) << high_) - 1); }
  HD std::uint32_t low_bits() const { return std::uint32_t((std::uint64_t(1) << low_) - 1); }

  HD std::uint64_t operator()(std::uint64_t x) const {
    do {
      auto left = std::uint32_t(x >> low_), right = std::uint32_t(x & low_bits());
      for (int k = 0; k < rounds; k += 2) {
        left ^= half(right, k) & high_bits();
        right ^= half(left, k + 1) & low_bits();
      }
      x = std::uint64_t(left) << low_ | right;
    } while (x >= n_);
    return x;
  }

  // What a round changes one half by, for what the other is.
  HD std::uint32_t half(std::uint32_t x, int k) const {
    x ^= keys_[k];
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
  }

 private:
  std::uint64_t n_;
  int low_ = 1, high_ = 0;
  std::uint32_t keys_[rounds];
};

enum class Order { given, shuffled, replaced };

// Which of `n` rows comes at each position of an epoch.
struct Selection {
  Order order;
  std::uint64_t n;
  Draws draws;
  Permutation permutation;

  Selection(Order order, std::uint64_t n, const Draws& draws)
      : order(order), n(n), draws(draws), permutation(n, draws) {}

  HD std::int64_t operator()(std::uint64_t position) const {
    if (order == Order::given) return std::int64_t(position);
    if (order == Order::shuffled) return std::int64_t(permutation(position));
    const Words words = draws.at(Use::replacing, position);
    const std::uint64_t u = std::uint64_t(words.w[0]) << 32 | words.w[1];
    return std::int64_t((unsigned __int128)(u)*n >> 64);
  }
};

// Between 0 and 1, by operations that round alike everywhere: libm's differ from one machine to the next.
HD double logarithm(double u) {
  const auto all = std::int64_t(bits(u)), exponent = (all - 0x3fe8000000000000) >> 52;
  const double m = __builtin_bit_cast(double, all - exponent * (std::int64_t(1) << 52));  // from 0.75 to 1.5
  const double s = (m - 1) / (m + 1), z = s * s;
  double series = 0;
  for (int k = 15; k > 0; k -= 2) series = series * z + 2. / k;
  return double(exponent) * 0.6931471805599453 + s * series;
}

struct Pair {
  double first, second;
};

// Cosine and sine of an angle in turns, from 0 up to 1; likewise.
HD Pair cosine_and_sine(double turns) {
  const int quarter = int(turns * 4 + 0.5);
  const double x = (turns - quarter * 0.25) * 6.283185307179586, z = x * x;
  double c = 0, s = 0, factorials[] = {479001600., -3628800., 40320., -720., 24., -2.};
  for (int j = 0; j < 6; ++j) c = c * z + 1 / factorials[j], s = s * z + 1 / (factorials[j] * (13 - 2 * j));
  c = c * z + 1, s = x * (s * z + 1);
  const double a = quarter & 1 ? -s : c, b = quarter & 1 ? c : s;
  return quarter & 2 ? Pair{-a, -b} : Pair{a, b};
}

// Two normally distributed numbers of two words, by Box and Muller.
HD Pair normals(std::uint32_t a, std::uint32_t b) {
  const double radius = root(-2 * logarithm((a + 0.5) / 4294967296.));
  const Pair direction = cosine_and_sine((b + 0.5) / 4294967296.);
  return {radius * direction.first, radius * direction.second};
}

}  // namespace gradstep
