// One instruction set's compiled loops.
#pragma once
#include "../backend.h"
#include "../rows.h"
#include "../vectors.h"

namespace gradstep {

// Updates tiles from `at` up to `end`, counted through all tensors of the call, of which `t` holds the first:
// as far as tensors compute in the same type. Moves `at`, and returns the tensor that it is then in.
using Sweep = const Tensor* (*)(const Tensor* t, std::int64_t& at, std::int64_t end, const Extras& extras);

// Surveys chunks [first, last) of one tensor.
using Survey = void (*)(const Tensor& t, std::int64_t first, std::int64_t last, double scale, bool counted,
                        Chunk* chunks);

// Tiles [first, last) of a pass over `tiles`. `sums` has a row of tiles for each product, and one for the
// greatest magnitudes.
using PassTiles = void (*)(const Pass& pass, std::int64_t first, std::int64_t last, std::int64_t tiles,
                           double* sums);

// Which rows come at `count` positions from `position` on.
using SelectRows = void (*)(const Selection& selection, std::uint64_t position, std::int64_t count,
                            std::int64_t* indices);

// Rows [first, last) of a batch.
using GatherRows = void (*)(const Gather& gather, const Batch& batch, std::int64_t first, std::int64_t last);

// Of columns [first, last) of rows [row, end), of which there are `block_rows` at most.
using BlockMoments = void (*)(const Source& source, std::int64_t row, std::int64_t end, std::int64_t first,
                              std::int64_t last, const double* near, Moments* moments);

struct InstructionSet {
  const char* name;
  const Sweep (*sweeps)[2];  // in float and in double: a row for each rule, in the order of `rules()`
  const Survey* surveys;
  const PassTiles* passes;
  SelectRows select;
  GatherRows gather;
  BlockMoments moments;
};

}  // namespace gradstep
