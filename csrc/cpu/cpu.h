// What the CPU backend offers beside backend.h: the choice of the instruction set, and how work is cut.
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

// How many tiles a thread claims at once, and how many elements are worth a thread.
void set_grain(std::int64_t part_tiles, std::int64_t thread_elements);

}  // namespace gradstep
