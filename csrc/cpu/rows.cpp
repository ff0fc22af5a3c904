// Rows of data sets on the CPU.
#include "../rows.h"

#include <algorithm>
#include <vector>

#include "cpu.h"
#include "runs.h"

namespace gradstep {

void select_rows(const Selection& selection, std::int64_t position, std::int64_t count, std::int64_t* indices,
                 int, void*) {
  constexpr std::int64_t run = 1024;
  const auto rows = instruction_set().select;
  share_runs(count, pieces(count, run), 16, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t at = first * run;
    rows(selection, std::uint64_t(position + at), std::min(last * run, count) - at, indices + at);
  });
}

void gather_rows(const Gather& gather, const Batch& batch, int, void*) {
  const auto rows = instruction_set().gather;
  const std::int64_t columns = gather.out_columns(), work = pieces(columns, tile_elements);
  const bool draws = gather.augments && gather.images.noise != 0;
  // Far rows take as long to arrive as the seven elements that a step reads or writes; noise is arithmetic.
  const std::int64_t elements = batch.count * columns * (draws ? 4 : 1);
  if (columns == 0) return;
  share_runs(elements / work, batch.count, work,
             [&](std::int64_t first, std::int64_t last) { rows(gather, batch, first, last); });
}

void column_moments(const Source& source, std::int64_t n, const double* near, Moments* moments, int, void*) {
  constexpr std::int64_t span = 1024;  // columns
  const std::int64_t blocks = std::max<std::int64_t>(1, pieces(n, block_rows)),
                     spans = pieces(source.columns, span);
  std::vector<Moments> found((blocks - 1) * source.columns);
  const auto of_block = instruction_set().moments;
  const std::int64_t work = std::min(span, source.columns);
  if (work == 0) return;
  share_runs(n * source.columns / work, blocks * spans, work, [&](std::int64_t unit, std::int64_t end) {
    for (; unit < end; ++unit) {
      const std::int64_t block = unit / spans, first = unit % spans * span;
      Moments* const to = block ? found.data() + (block - 1) * source.columns : moments;
      of_block(source, block * block_rows, std::min(n, (block + 1) * block_rows), first,
               std::min(source.columns, first + span), near, to + first);
    }
  });
  for (std::int64_t i = 0; i < std::int64_t(found.size()); ++i) {
    Moments& before = moments[i % source.columns];
    before = joined(before, found[i]);
  }
}

}  // namespace gradstep
