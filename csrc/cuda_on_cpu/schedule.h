// How the emulator runs a launch, and what it has to say about it: for whoever starts kernels. simt.h is what kernels see.
// Everything here belongs to the calling OS thread.
#pragma once
#include <cstdint>
#include <string>

namespace minglm {
namespace emulated {

enum class Order {
    in_order,  // of the threads that can run, the one with the lowest number
    reverse,   // the one with the highest: what warp 0 does early in one order, it does late in the other
    pct,       // warps by priorities that are drawn, and now and then drawn anew: one runs far ahead, then another one
};

struct Schedule {
    Order order = Order::in_order;
    uint64_t seed = 0;  // of all that is drawn; what happens in a block depends on the seed and the block alone
    int threads = 1;    // OS threads that the blocks are spread over
};

// "in-order", "reverse" or "pct:SEED" (the first two take a seed as well); std::invalid_argument if it is something else.
Schedule parse_schedule(const std::string& text, int threads = 1);
std::string schedule_text(const Schedule& schedule);

void set_schedule(const Schedule& schedule);

// What the last launch did wrong: what, which threads of which block, where everybody waits, and the schedule that shows it
// again. Empty if it did nothing wrong.
const std::string& last_report();

// What a launch asks of memory. A phase is what shared memory can serve at once, 8 lanes with 16 bytes each, if they all lie in
// different banks; each conflict costs it another turn. Global memory comes in sectors of 32 bytes.
struct Traffic {
    uint64_t matrix_phases = 0, matrix_conflicts = 0;  // load_matrices, _transposed
    uint64_t shared_phases = 0, shared_conflicts = 0;  // load16, store16, copy16_async
    uint64_t global_sectors = 0, global_bytes = 0;     // sectors touched, bytes asked for; perfect: 32 bytes a sector

    void operator+=(const Traffic& more) {
        matrix_phases += more.matrix_phases, matrix_conflicts += more.matrix_conflicts;
        shared_phases += more.shared_phases, shared_conflicts += more.shared_conflicts;
        global_sectors += more.global_sectors, global_bytes += more.global_bytes;
    }
};

void count_traffic(bool on);  // from zero on; off at first, because it takes time
Traffic traffic();

}  // namespace emulated
}  // namespace minglm
