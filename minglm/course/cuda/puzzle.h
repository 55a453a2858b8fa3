// What the kernels of the CUDA puzzles see. nvcc takes an Array as a plain pointer. A C++ compiler takes the
// emulator of csrc/cuda_on_cpu and the class below, which records every access of every thread. It finds
//
//   races           two threads touch a number, one of them writes, and no barrier is between them,
//                   whether or not this schedule made it visible
//   uninitialised   a number is read before anything was written to it
//   out of bounds   an index is outside of its array
//   bank conflicts  lanes of a warp ask one of the 32 banks of shared memory for different numbers at once
//
// and counts the numbers that are read and written. A place in the kernel is the return address of the
// recording function, which the debug information turns into a line.
#pragma once
#include "cuda/device.h"

#ifdef __CUDACC__

template <class T>
using Array = T*;

template <class T>
__device__ T* shared(int first, int) {
    return reinterpret_cast<T*>(minglm::cuda::shared_memory()) + first;
}
using namespace minglm;
using namespace minglm::cuda;

#else

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace puzzle {

using minglm::emulated::here;

struct Access {
    void* place = nullptr;
    int thread = 0, block = 0, barriers = 0, warp_barriers = 0;
};
struct Finding {
    std::string kind, what;
    void* place;
    void* other;  // of a race: where the other access is
};
struct Stats {
    long global_reads = 0, global_writes = 0, shared_reads = 0, shared_writes = 0, conflicts = 0, sectors = 0;
};
struct Span {  // an array, as one finds it
    const char* name;
    bool is_shared, starts_written;
};

class Recorder {
public:
    std::vector<Finding> findings;
    Stats stats;

    void start() {
        findings.clear(), cells_.clear(), stats = {}, block_ = -1;
    }
    void finish() { count_groups(); }
    void sync_block() { arrive(), ++barriers_[here.thread.x]; }
    void sync_warp() { arrive(), ++warp_barriers_[here.thread.x]; }

    void access(const Span& span, const void* address, long index, bool writes, void* place) {
        arrive();
        const int thread = static_cast<int>(here.thread.x);
        const Access now{place, thread, block_, barriers_[thread], warp_barriers_[thread]};
        (span.is_shared ? writes ? stats.shared_writes : stats.shared_reads
                        : writes ? stats.global_writes : stats.global_reads)++;
        groups_[{thread / 32, place, turns_[{thread, place}]++, span.is_shared}].push_back(
            span.is_shared ? reinterpret_cast<uintptr_t>(address) : static_cast<uintptr_t>(4 * index));
        Cell& cell = cells_[address];
        const std::string name = std::string(span.name) + "[" + std::to_string(index) + "]";
        if (!writes && !cell.written && !span.starts_written)
            find("uninitialised", name + " is read, and nothing was written there", place, nullptr);
        if (cell.written) compare(cell.write, now, name, writes ? "written twice" : "read");
        if (writes) {
            for (const Access& read : cell.reads) compare(read, now, name, "read");
            cell.write = now, cell.written = true, cell.reads.clear();
        } else {
            cell.reads.push_back(now);
        }
    }
    void outside(const Span& span, long index, long size, void* place) {
        const std::string where = std::string(span.name) + "[" + std::to_string(index) + "]";
        find("out of bounds", where + ": it has the numbers 0 to " + std::to_string(size - 1), place,
             nullptr);
    }

private:
    struct Cell {
        Access write;
        bool written = false;
        std::vector<Access> reads;
    };
    using Group = std::tuple<int, void*, int, bool>;  // warp, place, how often there, is it shared memory

    // A new block: its barriers count from 0, and its shared memory is uninitialised.
    void arrive() {
        const int block = static_cast<int>(here.block.x);
        if (block == block_) return;
        count_groups();
        block_ = block;
        std::fill(barriers_, barriers_ + 1024, 0), std::fill(warp_barriers_, warp_barriers_ + 1024, 0);
        const auto* const begin = here.shared;
        for (auto cell = cells_.begin(); cell != cells_.end();) {
            const auto* const at = static_cast<const unsigned char*>(cell->first);
            cell = at >= begin && at < begin + 65536 ? cells_.erase(cell) : std::next(cell);
        }
    }
    void compare(const Access& before, const Access& now, const std::string& name, const char* how) {
        if (before.block == now.block) {
            const bool same_warp = before.thread / 32 == now.thread / 32;
            if (before.thread == now.thread || before.barriers != now.barriers) return;
            if (same_warp && before.warp_barriers != now.warp_barriers) return;
        }
        const bool twice = std::string(how) == "written twice";
        find("race", name + (twice ? " is written twice, by " : " is written and read, by ") + who(before) +
             " and by " + who(now) + ", with no barrier between", now.place, before.place);
    }
    std::string who(const Access& access) const {
        const std::string thread = "thread " + std::to_string(access.thread);
        return here.grid.x > 1 ? thread + " of block " + std::to_string(access.block) : thread;
    }
    void find(const char* kind, const std::string& what, void* place, void* other) {
        for (const Finding& known : findings)
            if (known.kind == kind && known.place == place && known.other == other) return;
        if (findings.size() < 8) findings.push_back({kind, what, place, other});
    }
    // What the lanes of a warp ask for at once: sectors of 32 bytes, or banks of shared memory.
    void count_groups() {
        for (const auto& [group, addresses] : groups_) {
            if (std::get<3>(group)) {
                std::map<uintptr_t, std::set<uintptr_t>> banks;
                for (uintptr_t a : addresses) banks[a / 4 % 32].insert(a / 4);
                size_t most = 1;
                for (const auto& bank : banks) most = std::max(most, bank.second.size());
                stats.conflicts += static_cast<long>(most - 1);
                if (most > 1 && !conflict_place) conflict_place = std::get<1>(group);
            } else {
                std::set<uintptr_t> sectors;
                for (uintptr_t a : addresses) sectors.insert(a / 32);
                stats.sectors += static_cast<long>(sectors.size());
            }
        }
        groups_.clear(), turns_.clear();
    }

    std::unordered_map<const void*, Cell> cells_;
    std::map<Group, std::vector<uintptr_t>> groups_;
    std::map<std::pair<int, void*>, int> turns_;
    int barriers_[1024] = {}, warp_barriers_[1024] = {}, block_ = -1;

public:
    void* conflict_place = nullptr;
};

inline Recorder recorder;

template <class T>
class Array {
public:
    using Value = std::remove_const_t<T>;

    Array(const char* name, Value* data, long size, bool is_shared, bool starts_written)
        : span_{name, is_shared, starts_written}, data_(data), size_(size) {}

    class Number {  // array[i]: reading and writing it are recorded
    public:
        Number(const Array& array, long index) : array_(array), index_(index) {}
        [[gnu::always_inline]] operator Value() const { return array_.read(index_); }
        [[gnu::always_inline]] const Number& operator=(Value value) const {
            static_assert(!std::is_const_v<T>, "this array can only be read");
            array_.write(index_, value);
            return *this;
        }
        [[gnu::always_inline]] const Number& operator=(const Number& other) const {
            return *this = static_cast<Value>(other);
        }
        [[gnu::always_inline]] const Number& operator+=(Value value) const { return *this = *this + value; }
        [[gnu::always_inline]] const Number& operator-=(Value value) const { return *this = *this - value; }
        [[gnu::always_inline]] const Number& operator*=(Value value) const { return *this = *this * value; }
        [[gnu::always_inline]] const Number& operator/=(Value value) const { return *this = *this / value; }

    private:
        const Array& array_;
        long index_;
    };
    [[gnu::always_inline]] Number operator[](long index) const { return {*this, index}; }

private:
    [[gnu::noinline]] Value read(long index) const {
        void* const place = static_cast<char*>(__builtin_return_address(0)) - 1;
        if (index < 0 || index >= size_) return recorder.outside(span_, index, size_, place), Value(NAN);
        recorder.access(span_, data_ + index, index, false, place);
        return data_[index];
    }
    [[gnu::noinline]] void write(long index, Value value) const {
        void* const place = static_cast<char*>(__builtin_return_address(0)) - 1;
        if (index < 0 || index >= size_) return recorder.outside(span_, index, size_, place);
        recorder.access(span_, data_ + index, index, true, place);
        const_cast<Value*>(data_)[index] = value;
    }
    Span span_;
    Value* data_;
    long size_;
};

template <class T>
Array<T> shared(int first, int count) {
    return {"shared", reinterpret_cast<T*>(here.shared) + first, count, true, false};
}

inline void sync_block(MinglmSite site) { recorder.sync_block(), __syncthreads(site); }
inline void sync_warp(unsigned mask, MinglmSite site) { recorder.sync_warp(), __syncwarp(mask, site); }
inline MinglmSite at(const char* file, int line) { return MinglmSite::get(file, line); }
inline unsigned all_or(unsigned mask = 0xffffffffu) { return mask; }

}  // namespace puzzle

using puzzle::Array;
using puzzle::shared;
using namespace minglm;
using namespace minglm::emulated;
using std::max;
using std::min;
#define __syncthreads() ::puzzle::sync_block(::puzzle::at(__FILE__, __LINE__))
#define __syncwarp(...) ::puzzle::sync_warp(::puzzle::all_or(__VA_ARGS__), ::puzzle::at(__FILE__, __LINE__))

#endif
