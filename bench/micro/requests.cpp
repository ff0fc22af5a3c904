// What a program that runs under callgrind asks of it.
#include <valgrind/callgrind.h>

extern "C" {
void start() { CALLGRIND_START_INSTRUMENTATION; }
void dump(const char* name) { CALLGRIND_DUMP_STATS_AT(name); }
}
