// What a Hopper GPU does beside its threads: barriers that count arrivals, products that read shared memory
// while the threads go on, and the second view of memory that these products have. Only simt.cpp uses it.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace minglm {
namespace emulated {

constexpr uint32_t SHARED_BASE = 1024 + 128;  // the address of shared memory: not more aligned than promised

// Threads that wait, and two addresses to release and acquire, used in turn.
struct Waiting {
    std::vector<int> threads;
    uint64_t order[2];
};

struct CountingBarrier : Waiting {  // in shared memory
    int expected, missing;
    unsigned phase = 0;  // how many have been completed
};

struct NamedBarrier : Waiting {
    Site site{};
    int threads_of = 0, arrived = 0;
    unsigned times = 0;
};

// Which 16 bytes of shared memory some thread has copied, but products may not see yet. A product reads
// memory on another way than a thread: it sees a copy only after the copy has landed and the thread that made
// it has called publish_copies.
class Unpublished {
public:
    void begin(size_t bytes, int threads) {
        of_.assign((bytes + 15) / 16, {});
        if (static_cast<int>(touched_.size()) < threads) touched_.resize(threads);
        for (auto& some : touched_) some.clear();
    }
    void copy_begins(size_t offset, int thread) {
        State& state = of_[offset / 16];
        if (state.owner != thread + 1) touched_[thread].push_back(static_cast<uint32_t>(offset / 16));
        state = {thread + 1, false};
    }
    void copy_lands(size_t offset, int thread) {
        State& state = of_[offset / 16];
        if (state.owner == thread + 1) state.landed = true;
    }
    void publish(int thread) {
        std::vector<uint32_t> under_way;
        for (const uint32_t chunk : touched_[thread]) {
            State& state = of_[chunk];
            if (state.owner != thread + 1) continue;
            if (state.landed) state.owner = 0;
            else under_way.push_back(chunk);
        }
        touched_[thread].swap(under_way);
    }
    int owner(size_t offset) const { return of_[offset / 16].owner - 1; }  // -1: nobody

private:
    struct State {
        int owner = 0;
        bool landed = false;
    };
    std::vector<State> of_;
    std::vector<std::vector<uint32_t>> touched_;  // by each thread
};

// A matrix of 16-bit numbers in shared memory, as the hardware reads a descriptor of the 128-byte swizzle.
// Lines of 128 bytes lie one after the other; the 16 bytes c of a line of address a are at place c ^ (a / 128
// % 8). `line` counts rows, of k numbers each (or, transposed, rows of k, each of n numbers), and `chunk` the
// 16 bytes within a row: eight lines are followed by the next eight at `stride`, and eight chunks by the next
// eight at `leading`.
struct MatrixPlace {
    uint32_t start, leading, stride;
    bool valid;

    explicit MatrixPlace(uint64_t bits)
        : start((bits & 0x3fff) << 4),
          leading((bits >> 16 & 0x3fff) << 4),
          stride((bits >> 32 & 0x3fff) << 4),
          valid(bits >> 62 == 1 && (bits >> 48 & 0x3fff) == 0) {}

    uint32_t at(int line, int chunk) const {
        const uint32_t address =
            start + line / 8 * stride + line % 8 * 128 + chunk / 8 * leading + chunk % 8 * 16;
        return address ^ (address >> 7 & 7) << 4;
    }
};

// One warp's part of a warpgroup's product: 16 of 64 rows of a (16 numbers each), times 16 x columns. It may
// read all rows of the group, though it needs only its own.
struct Product {
    const char* file;
    int line;
    unsigned group;  // of products that are waited for together
    int columns, first_row;
    bool transposed, add, is_f16;
    uint64_t a_place, b_place;
    const uint32_t* a[32];  // registers, or null
    float* d[32];
    std::shared_ptr<std::vector<float>> sums;  // 16 x columns, of all products under way with the same d
    std::vector<uint32_t> operands;            // as they were when the product began

    static constexpr int CHUNKS_OF_A = 128;
    int chunks_of_b() const { return 2 * columns; }
    // shared memory: calls each(address, number) for every 16 bytes
    template <class Each>
    void each_chunk(const Each& each) const {
        const MatrixPlace a_at(a_place), b_at(b_place);
        int n = 0;
        for (int row = 0; row < 64 && !a[0]; ++row)
            for (int chunk = 0; chunk < 2; ++chunk) each(a_at.at(row, chunk), n++);
        n = CHUNKS_OF_A;
        for (int i = 0; i < chunks_of_b(); ++i)
            each(transposed ? b_at.at(i / (columns / 8), i % (columns / 8)) : b_at.at(i / 2, i % 2), n++);
    }
    // Four words of each chunk; first those of a, 64 x 16.
    std::vector<uint32_t> read(const unsigned char* shared) const {
        std::vector<uint32_t> words(4 * (CHUNKS_OF_A + chunks_of_b()));
        each_chunk([&](uint32_t address, int n) {
            std::memcpy(&words[4 * n], shared + (address - SHARED_BASE), 16);
        });
        for (int lane = 0; lane < 32 && a[0]; ++lane)
            for (int i = 0; i < 4; ++i)
                words[8 * (first_row + lane / 4 + 8 * (i % 2)) + lane % 4 + 4 * (i / 2)] = a[lane][i];
        return words;
    }
    template <class Value>
    void multiply(const Value& value) const {
        std::vector<float> b(16 * columns);
        const uint32_t* const words = operands.data() + 4 * CHUNKS_OF_A;
        const auto half = [&](uint32_t pair, int i) {
            return value(static_cast<uint16_t>(i % 2 ? pair >> 16 : pair));
        };
        for (int k = 0; k < 16; ++k)
            for (int n = 0; n < columns; ++n)
                b[k * columns + n] = transposed ? half(words[(k * columns + n) / 2], n)
                                                : half(words[n * 8 + k / 2], k);
        if (!add) sums->assign(sums->size(), 0);
        for (int m = 0; m < 16; ++m) {
            float* const to = sums->data() + m * columns;
            for (int k = 0; k < 16; ++k) {
                const float factor = half(operands[8 * (first_row + m) + k / 2], k);
                const float* const row = b.data() + k * columns;
                for (int n = 0; n < columns; ++n) to[n] += factor * row[n];
            }
        }
    }
    // Calls each(a lane's number, the sum) for all that the 32 lanes hold.
    template <class Each>
    void each_sum(const Each& each) const {
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < columns / 2; ++i) {
                const int row = lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                each(d[lane][i], (*sums)[row * columns + column]);
            }
    }
};

struct Products {  // of a warp
    std::vector<Product> under_way;  // oldest first
    unsigned groups = 0, begun = 0;  // groups that are closed, products of the whole launch
    bool ready = false;              // start_products was called after the last group

    void clear() { under_way.clear(), groups = begun = 0, ready = false; }
};

struct Issued {  // a warpgroup's products: the same for its four warps
    int line;
    uint64_t a_place, b_place;
    bool operator==(const Issued& x) const {
        return line == x.line && a_place == x.a_place && b_place == x.b_place;
    }
};

}  // namespace emulated
}  // namespace minglm
