// The number formats that arrays are stored in.
#pragma once

namespace gradstep {

enum class Format { f32, f64 };
inline constexpr int formats = 2;
inline constexpr const char* format_names[formats] = {"float32", "float64"};
inline constexpr int format_bytes[formats] = {4, 8};

}  // namespace gradstep
