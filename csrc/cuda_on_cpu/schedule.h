// For callers that start kernels: how the emulator runs a launch, and what it reports. simt.h is what kernels
// see. Everything here belongs to the calling OS thread.
#pragma once
#include <cstdint>
#include <string>

namespace minglm {
namespace emulated {

enum class Order {
    in_order,  // of the threads that can run, the one with the lowest number
    reverse,   // the one with the highest: what warp 0 does early in order, it does late in reverse
    pct,       // warps by random priorities, redrawn now and then: one runs far ahead, then another
};

struct Schedule {
    Order order = Order::in_order;
    uint64_t seed = 0;  // of all random choices; a block depends only on the seed and its number
    int threads = 1;    // OS threads that the blocks are spread over
};

// From "in-order", "reverse" or "pct:SEED" (the first two also take a seed); else throws
// std::invalid_argument.
Schedule parse_schedule(const std::string& text, int threads = 1);
std::string schedule_text(const Schedule& schedule);

void set_schedule(const Schedule& schedule);

// What the last launch did wrong, in which threads of which block, where all threads wait, and the schedule
// that reproduces it. Empty if nothing was wrong.
const std::string& last_report();

// The memory accesses of a launch. A phase is what shared memory can serve at once, 8 lanes with 16 bytes
// each, if they all lie in different banks; each conflict costs it another turn. Global memory is read in
// sectors of 32 bytes.
struct Traffic {
    uint64_t matrix_phases = 0, matrix_conflicts = 0;  // load_matrices, _transposed
    uint64_t shared_phases = 0, shared_conflicts = 0;  // load16, store16, copy16_async
    uint64_t global_sectors = 0, global_bytes = 0;     // touched, accessed; ideal: 32 bytes per sector

    void operator+=(const Traffic& more) {
        matrix_phases += more.matrix_phases, matrix_conflicts += more.matrix_conflicts;
        shared_phases += more.shared_phases, shared_conflicts += more.shared_conflicts;
        global_sectors += more.global_sectors, global_bytes += more.global_bytes;
    }
};

void count_traffic(bool on);  // starts from zero; off by default, because it takes time
Traffic traffic();

}  // namespace emulated
}  // namespace minglm
