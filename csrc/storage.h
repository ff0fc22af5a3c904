// The number formats that arrays are stored in, and how 16-bit ones become floats and back.
#pragma once
#include <cstdint>

#include "rules/rule.h"

namespace gradstep {

// How one real number lies in memory.
enum class Storage : std::uint8_t { f32, f64, bf16, f16 };
constexpr int bytes_of(Storage storage) {
  return storage == Storage::f64 ? 8 : storage == Storage::f32 ? 4 : 2;
}

// What an element of an array is: a complex one is two real numbers, each updated like any other.
enum class Format : std::uint8_t { f32, f64, bf16, f16, c64, c128 };
struct FormatInfo {
  const char* name;
  Storage storage;
  int parts;

  constexpr int bytes() const { return parts * bytes_of(storage); }
};
inline constexpr FormatInfo formats[] = {
    {"float32", Storage::f32, 1}, {"float64", Storage::f64, 1},   {"bfloat16", Storage::bf16, 1},
    {"float16", Storage::f16, 1}, {"complex64", Storage::f32, 2}, {"complex128", Storage::f64, 2},
};
constexpr const FormatInfo& info(Format format) { return formats[int(format)]; }

// Rules compute in double where anything is stored in double, else in float.
constexpr bool is_double(Storage storage) { return storage == Storage::f64; }
constexpr bool is_short(Storage storage) { return bytes_of(storage) == 2; }

// What states, master weights and averages of a parameter are stored in.
constexpr Format state_format(Format format) { return is_short(info(format).storage) ? Format::f32 : format; }

HD std::uint32_t bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }
HD std::uint64_t bits(double x) { return __builtin_bit_cast(std::uint64_t, x); }
HD float as_float(std::uint32_t x) { return __builtin_bit_cast(float, x); }

HD float from_bf16(std::uint16_t x) { return as_float(std::uint32_t(x) << 16); }

// To nearest, ties to even: half of the last place is added, less one where that place is even. NaN, which
// that could make a number of, becomes one with all bits.
HD std::uint16_t to_bf16(float x) {
  const std::uint32_t u = bits(x), rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  return std::uint16_t(x == x ? rounded : rounded | 0x7fff);
}

// The exponents' biases differ by 112; the product is exact, for subnormal numbers too.
HD float from_f16(std::uint16_t x) {
  const std::uint32_t sign = std::uint32_t(x & 0x8000) << 16, shifted = std::uint32_t(x & 0x7fff) << 13;
  const std::uint32_t finite = bits(as_float(shifted) * 0x1p112f), special = shifted | 0x7f800000;
  return as_float(sign | (shifted >= 0x0f800000 ? special : finite));
}

// A sum with 0.5 rounds to multiples of 2^-24, the step between subnormal numbers.
HD std::uint16_t to_f16(float x) {
  const std::uint32_t sign = bits(x) >> 16 & 0x8000, u = bits(x) & 0x7fffffff;
  const std::uint32_t normal = (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
  const std::uint32_t subnormal = bits(as_float(u) + 0.5f) - 0x3f000000;
  const std::uint32_t finite = u < 0x38800000 ? subnormal : normal;
  const std::uint32_t special = u > 0x7f800000 ? 0x7e00 : 0x7c00;
  return std::uint16_t(sign | (u >= 0x47800000 ? special : finite));
}

}  // namespace gradstep
