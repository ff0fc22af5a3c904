// Passes over vectors on the CPU.
#include "../vectors.h"

#include <vector>

#include "../norm.h"
#include "cpu.h"
#include "runs.h"

namespace gradstep {

struct Vectors::Memory {
  std::vector<double> sums, dots;
};

Vectors::Vectors(int) : memory_(std::make_unique<Memory>()) {}
Vectors::~Vectors() = default;
bool Vectors::far() { return false; }

static double read(const Scalar& scalar) {
  if (!scalar.at) return scalar.value;
  return is_double(scalar.storage) ? *static_cast<const double*>(scalar.at)
                                   : double(*static_cast<const float*>(scalar.at));
}

Results Vectors::run(const Pass& pass, void*) {
  auto& [sums, dots] = *memory_;
  const std::int64_t tiles = pieces(pass.n, tile_elements), count = pass.dots();
  sums.resize((count + 1) * tiles), dots.resize(count);
  const PassTiles pass_tiles = instruction_set().passes[is_double(pass.storage)];
  share_runs(
      pass.n, tiles, 1 + pass.streams() / 7,  // a step reads or writes about seven
      [&](std::int64_t first, std::int64_t last) { pass_tiles(pass, first, last, tiles, sums.data()); });
  const auto of = [&](std::int64_t k) { return std::span(sums).subspan(k * tiles, tiles); };
  for (std::int64_t k = 0; k < count; ++k) dots[k] = sum(of(k));
  double largest = 0;
  if (pass.largest)
    for (const double found : of(count)) largest = greater(largest, found);
  return {dots, largest, read(pass.scalar)};
}

}  // namespace gradstep
