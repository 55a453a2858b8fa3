// Forward on Hopper's tensor cores (compute capability 9.0), for bfloat16 and float16.
//
//   block      128 query rows of one sample and head; three warpgroups of 128 threads
//   copier     warpgroup 0 copies Q, then K and V of one tile of 128 keys after the other, into a ring
//   computers  warpgroups 1 and 2 own 64 rows each: S = Q K^T, softmax and O += P V, as in forward.cuh
//
// A product runs on its own: a warpgroup starts it and goes on. So S of tile j is started before P V of tile
// j - 1, and softmax of tile j is computed under the latter:
//
//   tensor cores   | S(j)  |  P(j-1) V(j-1)  | S(j+1) |  P(j) V(j)  |
//   group          |  wait  | softmax of S(j) | scale O, pack P(j)   |
//
// The groups take turns at starting products, so that one computes softmax while the other's products run.
// A group does not compute tiles that none of its rows sees, but gives their stages back.
//
//   full[i], empty[i]   barriers of stage i of the ring; K and V of a tile are two items, one after another.
//                       full: the four warps of the copier arrive; empty: the eight of the groups
#pragma once
#include "forward.cuh"
#include "hopper_device.h"

namespace minglm {
namespace MINGLM_DEVICE {

// ROWS x D 16-bit numbers in shared memory as a product reads them: slabs of 64 columns, rows of 128 bytes,
// chunk c at place c ^ (row % 8). Begins at a multiple of 1024 bytes.
template <int ROWS, int D>
struct WideTile {
    static constexpr int bytes = ROWS * D * 2, slab = ROWS * 128;
    unsigned char* memory;

    __device__ __forceinline__ unsigned char* at(int row, int chunk) const {
        return memory + chunk / 8 * slab + row * 128 + ((chunk % 8) ^ (row % 8)) * 16;
    }
    __device__ __forceinline__ Matrix matrix(int row) const { return matrix_at(memory + row * 128, slab); }
    // What to add to a matrix to get to the columns from 16 k on.
    static __device__ constexpr int columns(int k) { return (k / 4 * slab + k % 4 * 32) / 16; }
};

template <int D>
struct HopperShape {
    static constexpr int threads = 384, group_rows = 64, rows = 2 * group_rows, keys = 128;
    static constexpr int stages = 6;                // of one tile of K or V each
    static constexpr int barrier_bytes = 1024;      // and up to 1023 bytes before, to begin at a multiple
    static constexpr int shared_bytes =
        1024 + barrier_bytes + WideTile<rows, D>::bytes + stages * WideTile<keys, D>::bytes;
};

// 128 threads start copying rows [begin, begin + ROWS) into a tile: eight neighbours take a row of a slab.
template <int ROWS, int D>
__device__ __forceinline__ void copy_wide(const WideTile<ROWS, D>& to, const GlobalRows& from, int begin) {
    const int row = threadIdx.x / 8 % 16, chunk = threadIdx.x % 8;
    unsigned char* mine = to.at(row, chunk);  // has the same place every 8 rows
#pragma unroll 4
    for (int pass = 0; pass < ROWS; pass += 16) {
        const unsigned char* source = from.at(begin + pass + row) + chunk * 16;
#pragma unroll
        for (int slab = 0; slab < D / 64; ++slab)
            copy16_async(mine + slab * to.slab + pass * 128, source + slab * 128);
    }
}

// Items 0, 1, 2, 3, ... are K and V of tile 0, K and V of tile 1, ...; they go around the stages.
template <int STAGES>
struct Ring {
    uint64_t *full, *empty;

    __device__ __forceinline__ void wait_full(int item) const {
        barrier_wait(full + item % STAGES, item / STAGES & 1);
    }
    __device__ __forceinline__ bool is_empty(int item) const {
        return item < STAGES || barrier_done(empty + item % STAGES, (item / STAGES & 1) ^ 1);
    }
    __device__ __forceinline__ void wait_empty(int item) const {
        barrier_wait(empty + item % STAGES, (item / STAGES & 1) ^ 1);
    }
    // By all lanes of a warp, which is done with the stage.
    __device__ __forceinline__ void give_back(int item) const {
        __syncwarp();
        if (lane_id() == 0) barrier_arrive(empty + item % STAGES);
    }
};

// What a warp of a computing group holds: 16 rows, as in forward.cuh.
template <int D, class T>
struct HopperState {
    static constexpr int KEYS = HopperShape<D>::keys;
    using Rules = Forward<D, T, 1, KEYS, KEYS>;

    float o[D / 8][4], s[KEYS / 8][4], m[2], l[2], shrink[2];
    uint32_t p[KEYS / 16][4];
    int visible[2];
    float c;

    // Scores become P, not packed yet; shrink is what o has to be multiplied with.
    template <bool PARTIAL>
    __device__ __forceinline__ void soften(int first_key) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (PARTIAL) Rules::mask(s, half, visible[half] - first_key);
            shrink[half] = Rules::soften(s, half, c, m[half], l[half]);
        }
    }

    __device__ __forceinline__ void shrink_o() {
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) o[n][i] *= shrink[i / 2];
    }

    __device__ __forceinline__ void pack_p() {
#pragma unroll
        for (int k = 0; k < KEYS / 16; ++k) pack_a<T>(p[k], s, k);
    }

    __device__ __forceinline__ void start_scores(Matrix q, const WideTile<KEYS, D>& k) {
        const Matrix keys = k.matrix(0);
        start_products();
#pragma unroll
        for (int d = 0; d < D / 16; ++d)
            multiply_group<T>(s, q + WideTile<HopperShape<D>::rows, D>::columns(d),
                              keys + WideTile<KEYS, D>::columns(d), d != 0);
        end_products();
    }

    __device__ __forceinline__ void start_output(const WideTile<KEYS, D>& v) {
        const Matrix values = v.matrix(0);
        start_products();
#pragma unroll
        for (int key = 0; key < KEYS / 16; ++key)  // 16 rows are 2048 bytes
            multiply_group_transposed<T>(o, p[key], values + key * 128);
        end_products();
    }
};

template <int D, class T>
__global__ void __launch_bounds__(HopperShape<D>::threads, 1) forward_hopper_kernel(AttentionProblem p) {
    using Shape = HopperShape<D>;
    constexpr int ROWS = Shape::rows, KEYS = Shape::keys, STAGES = Shape::stages, GROUP = Shape::group_rows;
    using KeyTile = WideTile<KEYS, D>;
    const int64_t head = blockIdx.y;
    const Place place = place_of(gridDim.x - 1 - blockIdx.x, p.cu_seqlens_q, p.samples, ROWS);
    const Sample sample = sample_of(p, place.sample);
    const int begin = static_cast<int>(place.begin), len_q = static_cast<int>(sample.len_q);
    if (begin >= len_q) return;
    const int last = begin + ROWS < len_q ? begin + ROWS - 1 : len_q - 1;
    const int tiles = visited_tiles(sample.first_row + last, sample, KEYS);

    unsigned char* shared = shared_memory();
    shared += -shared_address(shared) & 1023;
    const WideTile<ROWS, D> q_tile{shared};
    auto stage_of = [&](int item) { return KeyTile{shared + q_tile.bytes + item % STAGES * KeyTile::bytes}; };
    uint64_t* const barriers = reinterpret_cast<uint64_t*>(shared + q_tile.bytes + STAGES * KeyTile::bytes);
    const Ring<STAGES> ring{barriers, barriers + STAGES};
    if (threadIdx.x == 0)
        for (int i = 0; i < STAGES; ++i) barrier_init(ring.full + i, 4), barrier_init(ring.empty + i, 8);
    __syncthreads();
    const int group = warp_id() / 4;

    if (group == 0) {
        fewer_registers<40>();
        const GlobalRows k(p.k, sample.first_k, sample.len_k, head),
            v(p.v, sample.first_k, sample.len_k, head);
        int told = 0;
        auto tell = [&](int items) {  // the first so many items are there; Q comes with the first
            publish_copies();
            __syncwarp();
            for (; told < items; ++told)
                if (lane_id() == 0) barrier_arrive(ring.full + told % STAGES);
        };
        if (tiles) copy_wide(q_tile, GlobalRows(p.q, sample.first_q, sample.len_q, head), begin);
        constexpr int LAG = 2;  // items that are being copied while one is waited for
        for (int item = 0; item < 2 * tiles; ++item) {
            if (!__all_sync(0xffffffffu, ring.is_empty(item))) {
                wait_copies<0>();  // subtle: those who use the stage may be waiting for what is there by now
                tell(item);
                ring.wait_empty(item);
            }
            GlobalRows from = k;
            if (item % 2) from.first = v.first, from.bytes = v.bytes;
            copy_wide(stage_of(item), from, item / 2 * KEYS);
            commit_copies();
            wait_copies<LAG>();
            tell(item - LAG + 1);
        }
        wait_copies<0>();
        tell(2 * tiles);
        return;
    }

    more_registers<232>();
    const int own = (group - 1) * GROUP;  // the group's first row in the block
    const int row = own + warp_id() % 4 * 16, g = lane_id() / 4, t = lane_id() % 4;
    // the tiles that some row of the group sees, and those that every row sees
    const int mine = tiles_of_warp(begin + own, GROUP, sample, KEYS);
    const int seen_by_all = full_tiles(sample.first_row + begin + own, sample, KEYS);
    const int full = seen_by_all < mine ? seen_by_all : mine;  // subtle: a group without rows has none

    HopperState<D, T> state;
    state.c = static_cast<float>(p.scale) * LOG2_E;
    const float lowest = -1e38f / fmaxf(1, state.c);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = begin + row + half * 8 + g;
        const int64_t i = sample.first_row + (r < len_q ? r : len_q - 1);
        state.visible[half] = static_cast<int>(keys_of_row(i, sample.part_a_len, sample.len_k));
        state.m[half] = lowest;
        state.l[half] = 0;
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) state.o[n][i] = 0;
    const Matrix q = q_tile.matrix(own);

    // The turn of a group: the barrier that has its number. The last turn is not passed on.
    auto take_turn = [&] { group_sync(group, 256); };
    auto pass_turn = [&](int tile) {
        if (group == 1 || tile + 1 < tiles) group_arrive(3 - group, 256);
    };
    if (group == 2 && tiles) group_arrive(1, 256);

    if (mine > 0) {
        take_turn();
        ring.wait_full(0);
        state.start_scores(q, stage_of(0));
        pass_turn(0);
        wait_products<0>();
        pin(state.s);
        ring.give_back(0);
        state.template soften<true>(0);
        state.pack_p();
    }
    auto step = [&](int j, auto partial) {
        take_turn();
        ring.wait_full(2 * j);  // and with it the items before
        state.start_scores(q, stage_of(2 * j));
        state.start_output(stage_of(2 * j - 1));
        pass_turn(j);
        wait_products<1>();
        pin(state.s);
        ring.give_back(2 * j);
        state.template soften<decltype(partial)::value>(j * KEYS);
        // P is, while O is being computed; with D = 128, ptxas has too few registers to keep this order
        if constexpr (D == 64) computed(state.l[0] + state.l[1]);
        wait_products<0>();
        pin(state.o);
        ring.give_back(2 * j - 1);
        state.shrink_o();
        state.pack_p();
    };
    int j = 1;
    for (; j < full; ++j) step(j, std::false_type());
    for (; j < mine; ++j) step(j, std::true_type());
    if (mine > 0) {
        ring.wait_full(2 * mine - 1);
        state.start_output(stage_of(2 * mine - 1));
        wait_products<0>();
        pin(state.o);  // nobody waits for this stage: the groups see nearly as many tiles
    }
    // subtle: only after Q is there: the end writes over it
    for (j = mine; j < tiles; ++j) {
        take_turn();
        pass_turn(j);
        for (int item = 2 * j; item < 2 * j + 2; ++item) {
            ring.wait_full(item);
            ring.give_back(item);
        }
    }

    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float l = state.l[half];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        inverse[half] = l == 0 ? 0 : 1 / l;  // a row that sees no key: out 0, lse -inf
        const int r = begin + row + half * 8 + g;
        if (t == 0 && r < len_q)
            static_cast<float*>(p.lse)[head * p.queries + sample.first_q + r] =
                l == 0 ? -INF : LN_2 * (state.c * state.m[half] + log2f(l));
    }
    // Through the rows of Q: every product of the group has read them.
    group_sync(3 + group, 128);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
        const float(&x)[4] = state.o[n];
        *reinterpret_cast<uint32_t*>(q_tile.at(row + g, n) + t * 4) =
            pack<T>(x[0] * inverse[0], x[1] * inverse[0]);
        *reinterpret_cast<uint32_t*>(q_tile.at(row + g + 8, n) + t * 4) =
            pack<T>(x[2] * inverse[1], x[3] * inverse[1]);
    }
    __syncwarp();
#pragma unroll
    for (int i = lane_id() / 8; i < 16; i += 4) {
        const int r = begin + row + i;
        if (r >= len_q) continue;
        unsigned char* out = static_cast<unsigned char*>(p.out.data) +
                             ((sample.first_q + r) * p.out.row + head * p.out.head) * 2 + lane_id() % 8 * 16;
#pragma unroll
        for (int slab = 0; slab < D / 64; ++slab)
            store16(out + slab * 128, load16(q_tile.at(row + i, slab * 8 + lane_id() % 8)));
    }
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
