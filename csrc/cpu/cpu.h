// What the CPU backend offers beside backend.h: its verbs, the choice of the instruction set, and how work is
// cut.
#pragma once
#include <span>
#include <string>

#include "sweep.h"

namespace gradstep {

// Those compiled in, the widest first; and of them, those that this processor has.
std::span<const InstructionSet* const> instruction_sets();
bool supported(const InstructionSet& isa);

const InstructionSet& instruction_set();
void set_instruction_set(const InstructionSet& isa);

// One step of `rule` for all tensors.
void update(int rule, std::span<const Tensor> tensors, const Extras& extras);

// Reads all gradients; squares are taken of each times `scale`.
void survey(std::span<const Tensor> tensors, double scale, bool counted, Chunk* chunks);

// Sums runs as long as a tile, then their sums likewise, until one is left: the same order everywhere. What
// is in `terms` is lost.
double sum(std::span<double> terms);

}  // namespace gradstep
