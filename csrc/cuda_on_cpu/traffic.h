// Counts the memory accesses of a block (struct Traffic). Only simt.cpp uses it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "schedule.h"

namespace minglm {
namespace emulated {

// The turns that shared memory needs for 16 bytes at each of n <= 8 addresses. It has 32 banks of 4 bytes
// each: one turn is enough if no two different addresses lie in the same eighth of 128 bytes.
inline int turns(const uintptr_t* addresses, int n) {
    size_t worst = 1;
    for (uintptr_t eighth = 0; eighth < 8; ++eighth) {
        std::set<uintptr_t> wanted;
        for (int i = 0; i < n; ++i)
            if (addresses[i] / 16 % 8 == eighth) wanted.insert(addresses[i]);
        worst = std::max(worst, wanted.size());
    }
    return static_cast<int>(worst);
}

// Combines what a warp does in one instruction: the n-th access of each lane at one place in the source. An
// approximation if lanes take different paths through a loop.
class Counter {
public:
    Traffic traffic;

    void matrix(const uintptr_t (&rows)[8]) {
        ++traffic.matrix_phases, traffic.matrix_conflicts += turns(rows, 8) - 1;
    }

    void access(unsigned thread, uintptr_t address, const char* file, int line, bool shared) {
        const Place place = {file, line, shared};
        const auto at = groups_.try_emplace({thread / 32, place, executions_[{thread, place}]++}).first;
        Group& group = at->second;
        group.lanes |= 1u << thread % 32;
        group.address[thread % 32] = address;
        if (group.lanes == 0xffffffffu) count(group, shared), groups_.erase(at);
    }

    void end_block() {  // instructions that not all lanes of a warp executed
        for (const auto& [key, group] : groups_) count(group, std::get<2>(std::get<1>(key)));
        groups_.clear(), executions_.clear();
    }

private:
    using Place = std::tuple<const char*, int, bool>;  // file, line, shared or global
    struct Group {
        uint32_t lanes = 0;
        uintptr_t address[32];
    };

    void count(const Group& group, bool shared) {
        std::set<uintptr_t> sectors;
        // a phase: 8 lanes with 16 bytes are the 128 bytes of all banks
        for (int first = 0; first < 32; first += 8) {
            uintptr_t addresses[8];
            int n = 0;
            for (int lane = first; lane < first + 8; ++lane)
                if (group.lanes >> lane & 1) addresses[n++] = group.address[lane];
            if (n && shared) ++traffic.shared_phases, traffic.shared_conflicts += turns(addresses, n) - 1;
            if (!shared) traffic.global_bytes += 16 * n;
            for (int i = 0; i < n; ++i) sectors.insert(addresses[i] / 32);
        }
        if (!shared) traffic.global_sectors += sectors.size();
    }

    std::map<std::pair<unsigned, Place>, unsigned> executions_;      // of a thread
    std::map<std::tuple<unsigned, Place, unsigned>, Group> groups_;  // of a warp
};

}  // namespace emulated
}  // namespace minglm
