// Forward on tensor cores, for bfloat16 and float16.
//
//   block    128 query rows of one sample and head: four warps with 32 rows each
//   loop     tiles of 64 keys: first those that every row of the block sees, without a mask, then the partial
//            ones; meanwhile the next ones are being copied (KeyTiles in tiles.cuh)
//   lane     parts of the rows g and g + 8 of each 16 (mma.cuh): their scores, their share of O, m and l
//
//   S = Q K^T    m' = max(m, rowmax S)    P = 2^(c (S - m'))    with c = scale log2 e
//   l = 2^(c (m - m')) l + rowsum P       O = 2^(c (m - m')) O + P V
//   at the end   O / l    lse = ln 2 (c m + log2 l)
//
// P never leaves the registers: it is C of the first product and A of the second. There is no dropout.
//
// forward_few_kernel is for few rows with many keys, as in generation with a cache. Its block owns 16 rows,
// and its warps share each tile's keys instead of the rows; at the end the four results become one. If there
// are too few such blocks for the GPU, several share the tiles of the same rows, and combine_kernel makes one
// result of theirs, in the order of the keys: results repeat bit for bit.
#pragma once
#include <type_traits>

#include "mma.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

template <int D>
struct ForwardShape {
    static constexpr int threads = 128;
    static constexpr int sixteens = 2;  // of rows, per warp: each matrix of K and V that it loads serves two
    static constexpr int rows = threads / 32 * 16 * sixteens;
    static constexpr int keys = 64;
    static constexpr int stages = D <= 64 ? 2 : 1;  // what leaves room for two blocks on a multiprocessor
    using Tiles = KeyTiles<threads, keys, D, stages>;
    static constexpr int shared_bytes = SharedTile<rows, D>::bytes + Tiles::bytes;
};

constexpr int FEW_ROWS = 16;  // of a block of forward_few_kernel

// Whether it is the kernel to take: in generation most samples have one row; a block of forward_kernel has
// 128.
static inline bool has_few_rows(const AttentionProblem& p) {
    return p.queries <= FEW_ROWS * p.samples && p.keys >= 4 * p.queries;
}

template <int D>
struct FewShape {
    static constexpr int threads = 128, rows = FEW_ROWS;
    static constexpr int keys = D <= 64 ? 128 : 64;  // what keeps most bytes under way in 99 KiB
    static constexpr int warp_keys = keys / 4;
    using Tiles = KeyTiles<threads, keys, D, 2>;
    static constexpr int shared_bytes = SharedTile<rows, D>::bytes + Tiles::bytes;
};

// What a warp computes: 16 SIXTEENS rows, with KEYS keys of each tile of TILE keys.
template <int D, class T, int SIXTEENS, int KEYS, int TILE>
struct Forward {
    using KeyTile = SharedTile<TILE, D>;

    static constexpr bool HOLD_Q = D * SIXTEENS <= 128;  // else Q is reloaded for each tile: 255 registers
    uint32_t q[SIXTEENS][HOLD_Q ? D / 16 : 1][4];
    float o[SIXTEENS][D / 8][4];
    float m[SIXTEENS][2], l[SIXTEENS][2];  // l: this lane's share of the sum
    int visible[SIXTEENS][2];
    float c;
    LaneOffset by_half = lanes_by_half(), by_row = lanes_by_row();

    // `row`: the warp's first row in the tile of Q, which begins with row `begin` of the sample.
    template <int ROWS>
    __device__ __forceinline__ void start(const AttentionProblem& p, const Sample& sample,
                                          const SharedTile<ROWS, D>& q_tile, int begin, int row) {
        // c is positive, so that the largest score stays the largest: Q has taken the sign, or is 0
        c = p.scale == 0 ? 1 : fabsf(static_cast<float>(p.scale)) * LOG2_E;
        // the maximum before any score, far below all others; c times it is finite, so scores of -inf give
        // P = 0
        const float lowest = -1e38f / fmaxf(1, c);
        const int len_q = static_cast<int>(sample.len_q);
#pragma unroll
        for (int x = 0; x < SIXTEENS; ++x) {
            if constexpr (HOLD_Q)
#pragma unroll
                for (int d = 0; d < D / 16; ++d) load_a(q[x][d], q_tile, by_half, row + x * 16, d);
#pragma unroll
            for (int n = 0; n < D / 8; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) o[x][n][i] = 0;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int r = begin + row + x * 16 + half * 8 + lane_id() / 4;
                const int64_t i = sample.first_row + (r < len_q ? r : len_q - 1);
                visible[x][half] = static_cast<int>(keys_of_row(i, sample.part_a_len, sample.len_k));
                m[x][half] = lowest;
                l[x][half] = 0;
            }
        }
    }

    using Scores = float[SIXTEENS][KEYS / 8][4];

    // S += Q K^T for the keys from row `first` of a tile on; `row` is the warp's first in the tile of Q.
    template <int ROWS>
    __device__ __forceinline__ void scores(Scores& s, const SharedTile<ROWS, D>& q_tile, int row,
                                           const KeyTile& k, int first = 0) {
#pragma unroll
        for (int d = 0; d < D / 16; ++d) {
            if constexpr (!HOLD_Q)
#pragma unroll
                for (int x = 0; x < SIXTEENS; ++x) load_a(q[x][0], q_tile, by_half, row + x * 16, d);
#pragma unroll
            for (int n = 0; n < KEYS / 16; ++n) {
                uint32_t b[2][2];
                load_b_of_rows(b, k, by_row, first + n * 16, d);
#pragma unroll
                for (int x = 0; x < SIXTEENS; ++x) {
                    multiply_add<T>(s[x][2 * n], q[x][HOLD_Q ? d : 0], b[0]);
                    multiply_add<T>(s[x][2 * n + 1], q[x][HOLD_Q ? d : 0], b[1]);
                }
            }
        }
    }

    // The softmax of S, and O += P V; `begin` is the number of the first of these keys. S becomes P.
    template <bool PARTIAL>
    __device__ __forceinline__ void add_values(Scores& s, const KeyTile& v, int begin, int first = 0) {
#pragma unroll
        for (int x = 0; x < SIXTEENS; ++x)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (PARTIAL) mask(s[x], half, visible[x][half] - begin);
                const float shrink = soften(s[x], half, c, m[x][half], l[x][half]);
#pragma unroll
                for (int n = 0; n < D / 8; ++n)
                    o[x][n][2 * half] *= shrink, o[x][n][2 * half + 1] *= shrink;
            }
#pragma unroll
        for (int key = 0; key < KEYS / 16; ++key) {
            uint32_t p[SIXTEENS][4];
#pragma unroll
            for (int x = 0; x < SIXTEENS; ++x) pack_a<T>(p[x], s[x], key);
#pragma unroll
            for (int n = 0; n < D / 16; ++n) {
                uint32_t b[2][2];
                load_b(b, v, by_half, first + key * 16, n);
#pragma unroll
                for (int x = 0; x < SIXTEENS; ++x) {
                    multiply_add<T>(o[x][2 * n], p[x], b[0]);
                    multiply_add<T>(o[x][2 * n + 1], p[x], b[1]);
                }
            }
        }
    }

    // Scores of keys that the row does not see become -inf; `visible` counts from the tile's first key.
    static __device__ __forceinline__ void mask(float (&s)[KEYS / 8][4], int half, int visible) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                if (n * 8 + lane_id() % 4 * 2 + i >= visible) s[n][2 * half + i] = -INF;
    }

    // Online softmax of one row: scores become P, l is scaled to the new maximum. Returns the factor for O.
    static __device__ __forceinline__ float soften(float (&s)[KEYS / 8][4], int half, float c, float& m,
                                                   float& l) {
        float top = m;
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const float base = c * top;
        const float shrink = exp2_fast(c * m - base);
        float sum = 0;
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
                s[n][i] = exp2_fast(c * s[n][i] - base);
                sum += s[n][i];
            }
        m = top;
        l = l * shrink + sum;
        return shrink;
    }
};

template <int D, class T>
__global__ void __launch_bounds__(ForwardShape<D>::threads) forward_kernel(AttentionProblem p) {
    using Shape = ForwardShape<D>;
    constexpr int ROWS = Shape::rows, KEYS = Shape::keys, SIXTEENS = Shape::sixteens;
    // the last rows of a sample see the most keys, so they start first
    const OwnRows own(p, gridDim.x - 1 - blockIdx.x, ROWS);
    if (own.none()) return;
    const Sample& sample = own.sample;
    const int64_t head = own.head;
    const int begin = own.begin, len_q = own.len_q;
    const int full = full_tiles(sample.first_row + begin, sample, KEYS);
    const int tiles = visited_tiles(sample.first_row + own.last, sample, KEYS);

    const SharedTile<ROWS, D> q_tile{shared_memory()};
    const typename Shape::Tiles keys(q_tile.memory + q_tile.bytes, p, sample, head);
    copy_tile<Shape::threads>(q_tile, GlobalRows(p.q, sample.first_q, len_q, head), begin);
    constexpr bool BOTH = Shape::stages == 2;
    auto fetch_next = [&](int j) {
        if (j < tiles) keys.fetch_k(j);
        if (j < tiles && BOTH) keys.fetch_v(j);
        commit_copies();
    };
    fetch_next(0);
    wait_copies<0>();
    __syncthreads();

    Forward<D, T, SIXTEENS, KEYS, KEYS> state;
    const int row = warp_id() * 16 * SIXTEENS, g = lane_id() / 4;
    if (p.scale <= 0) negate_rows(q_tile, row, 16 * SIXTEENS, p.scale == 0);
    state.start(p, sample, q_tile, begin, row);

    // Of the block's tiles, a warp computes those that its own last row sees; none without a row of its own.
    const int mine = tiles_of_warp(begin + row, 16 * SIXTEENS, sample, KEYS);

    // After a barrier, what has been waited for has arrived for all threads, and none still reads what was
    // used before it: that place can be filled again.
    auto step = [&](int j, auto partial, bool computes) {
        wait_copies<0>();
        __syncthreads();
        if constexpr (BOTH) {
            fetch_next(j + 1);
        } else {
            keys.fetch_v(j);
            commit_copies();
        }
        float s[SIXTEENS][KEYS / 8][4] = {};
        if (computes) state.scores(s, q_tile, row, keys.k_tile(j));
        if constexpr (!BOTH) {
            wait_copies<0>();
            __syncthreads();
            fetch_next(j + 1);
        }
        if (computes) state.template add_values<partial.value>(s, keys.v_tile(j), j * KEYS);
    };
    int j = 0;
    for (; j < full; ++j) step(j, std::false_type(), begin + row < len_q);
    for (; j < tiles; ++j) step(j, std::true_type(), j < mine);

#pragma unroll
    for (int x = 0; x < SIXTEENS; ++x) {
        float inverse[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float l = state.l[x][half];
            l += __shfl_xor_sync(0xffffffffu, l, 1);
            l += __shfl_xor_sync(0xffffffffu, l, 2);
            inverse[half] = l == 0 ? 0 : 1 / l;  // a row that sees no key: out 0, lse -inf
            const int r = begin + row + x * 16 + half * 8 + g;
            if (lane_id() % 4 == 0 && r < len_q)
                static_cast<float*>(p.lse)[head * p.queries + sample.first_q + r] =
                    l == 0 ? -INF : LN_2 * (state.c * state.m[x][half] + log2f(l));
        }
        const int r = begin + row + x * 16;
        store_rows<T>(state.o[x], inverse[0], inverse[1], q_tile, row + x * 16, p.out, sample.first_q + r,
                      len_q - r, head);
    }
}

// How blocks share the tiles of 16 rows: each takes `each` tiles, the last one what is left.
struct Shares {
    int tiles, each;

    __device__ __forceinline__ Shares(int seen, int keys, int splits)
        : tiles((seen + keys - 1) / keys), each((tiles + splits - 1) / splits) {}

    __device__ __forceinline__ int begin(int share) const { return share * each; }
    __device__ __forceinline__ int end(int share) const {
        return tiles < (share + 1) * each ? tiles : (share + 1) * each;
    }
    __device__ __forceinline__ int count() const { return each ? (tiles + each - 1) / each : 0; }
};

// What each share of a row leaves for combine_kernel: O and l of its keys, relative to 2^base.
template <int D>
struct Parts {
    float *o, *sums;
    int64_t rows, queries;

    __device__ __forceinline__ explicit Parts(const AttentionProblem& p)
        : o(p.parts), sums(o + p.splits * p.heads * p.queries * D), rows(p.heads * p.queries),
          queries(p.queries) {}

    __device__ __forceinline__ float* o_of(int share, int64_t head, int64_t row) const {
        return o + (share * rows + head * queries + row) * D;
    }
    __device__ __forceinline__ float* base_and_l(int share, int64_t head, int64_t row) const {
        return sums + (share * rows + head * queries + row) * 2;
    }
};

template <int D, class T>
__global__ void __launch_bounds__(FewShape<D>::threads) forward_few_kernel(AttentionProblem p) {
    using Shape = FewShape<D>;
    constexpr int ROWS = Shape::rows, KEYS = Shape::keys;
    constexpr int WARP_KEYS = Shape::warp_keys, WARPS = KEYS / WARP_KEYS;
    const OwnRows own(p, blockIdx.x, ROWS);
    if (own.none()) return;
    const Sample& sample = own.sample;
    const int64_t head = own.head;
    const int begin = own.begin, len_q = own.len_q;
    const int seen = keys_seen(sample, own.last), share = blockIdx.z;
    const Shares shares(seen, KEYS, gridDim.z);
    const int first = shares.begin(share);
    const int tiles = shares.end(share);
    if (share > 0 && first >= tiles) return;

    const SharedTile<ROWS, D> q_tile{shared_memory()};
    unsigned char* const rest = q_tile.memory + q_tile.bytes;
    const typename Shape::Tiles keys(rest, p, sample, head);
    auto fetch = [&](int j) {
        if (j < tiles) keys.fetch_k(j), keys.fetch_v(j);
        commit_copies();
    };
    const int warp = warp_id(), g = lane_id() / 4, t = lane_id() % 4;
    if (warp < ROWS / 8) copy_tile<ROWS * 4>(q_tile, GlobalRows(p.q, sample.first_q, len_q, head), begin);
    fetch(first);
    wait_copies<0>();
    __syncthreads();
    if (p.scale <= 0) {
        if (warp == 0) negate_rows(q_tile, 0, ROWS, p.scale == 0);
        __syncthreads();
    }
    Forward<D, T, 1, WARP_KEYS, KEYS> state;
    state.start(p, sample, q_tile, begin, 0);

    const int mine = warp * WARP_KEYS;  // of each tile
    for (int j = first; j < tiles; ++j) {
        wait_copies<0>();
        __syncthreads();
        fetch(j + 1);
        if (j * KEYS + mine >= seen) continue;
        float s[1][WARP_KEYS / 8][4] = {};
        state.scores(s, q_tile, 0, keys.k_tile(j), mine);
        state.template add_values<true>(s, keys.v_tile(j), j * KEYS + mine, mine);
    }

    // The results of all warps, in the place of the tiles: o, a row's maximum, and its sum.
    float* all_o = reinterpret_cast<float*>(rest);
    float *all_m = all_o + WARPS * ROWS * D, *all_l = all_m + WARPS * ROWS;
    __syncthreads();  // no warp still reads the last tile
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int at = warp * ROWS + half * 8 + g;
        float l = state.l[0][half];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        if (t == 0) all_m[at] = state.m[0][half], all_l[at] = l;
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) all_o[at * D + n * 8 + 2 * t + i] = state.o[0][n][2 * half + i];
    }
    __syncthreads();
    for (int chunk = threadIdx.x; chunk < ROWS * D / 8; chunk += Shape::threads) {
        const int row = chunk / (D / 8), column = chunk % (D / 8) * 8, r = begin + row;
        if (r >= len_q) continue;
        float top = all_m[row], l = 0, o[8] = {};
#pragma unroll
        for (int w = 1; w < WARPS; ++w) top = fmaxf(top, all_m[w * ROWS + row]);
#pragma unroll
        for (int w = 0; w < WARPS; ++w) {
            const int at = w * ROWS + row;
            const float shrink = exp2_fast(state.c * all_m[at] - state.c * top);
            l += shrink * all_l[at];
#pragma unroll
            for (int i = 0; i < 8; ++i) o[i] += shrink * all_o[at * D + column + i];
        }
        if (gridDim.z > 1) {
            const Parts<D> parts(p);
            float* const to = parts.o_of(share, head, sample.first_q + r) + column;
#pragma unroll
            for (int i = 0; i < 8; i += 4)
                store16(to + i, make_uint4(__float_as_uint(o[i]), __float_as_uint(o[i + 1]),
                                           __float_as_uint(o[i + 2]), __float_as_uint(o[i + 3])));
            float* const sums = parts.base_and_l(share, head, sample.first_q + r);
            if (column == 0) sums[0] = state.c * top, sums[1] = l;
            continue;
        }
        const float inverse = l == 0 ? 0 : 1 / l;
        if (column == 0)
            static_cast<float*>(p.lse)[head * p.queries + sample.first_q + r] =
                l == 0 ? -INF : LN_2 * (state.c * top + log2f(l));
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[i] = pack<T>(o[2 * i] * inverse, o[2 * i + 1] * inverse);
        store16(static_cast<unsigned char*>(p.out.data) +
                    ((sample.first_q + r) * p.out.row + head * p.out.head + column) * 2,
                make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
    }
}

struct CombineShape {
    static constexpr int threads = 128, warps = threads / 32;
    static constexpr int most_splits = 32;  // a lane for each
};

// A warp per row: lane z weighs share z, then each lane sums four columns over all shares.
template <int D, class T>
__global__ void __launch_bounds__(CombineShape::threads) combine_kernel(AttentionProblem p) {
    constexpr int ROWS = FewShape<D>::rows, KEYS = FewShape<D>::keys;
    const OwnRows own(p, blockIdx.x * CombineShape::warps + warp_id(), 1);
    if (own.none()) return;
    const Sample& sample = own.sample;
    const int row = own.begin, lane = lane_id();
    const int group_end = row / ROWS * ROWS + ROWS;  // of the rows that were in one block with this one
    const int seen = keys_seen(sample, (group_end < own.len_q ? group_end : own.len_q) - 1);
    const int count = Shares(seen, KEYS, static_cast<int>(p.splits)).count();

    const Parts<D> parts(p);
    const int64_t at = sample.first_q + row;
    float base = -INF, l = 0;
    if (lane < count) {
        const float* sums = parts.base_and_l(lane, own.head, at);
        base = sums[0], l = sums[1];
    }
    float top = base;
#pragma unroll
    for (int other = 16; other; other /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, other));
    const float weight = lane < count ? exp2_fast(base - top) : 0;
    l *= weight;
#pragma unroll
    for (int other = 16; other; other /= 2) l += __shfl_xor_sync(0xffffffffu, l, other);

    float o[4] = {};
#pragma unroll 4
    for (int share = 0; share < count; ++share) {
        const float factor = __shfl_sync(0xffffffffu, weight, share);
        if (lane >= D / 4) continue;
        const uint4 x = load16(parts.o_of(share, own.head, at) + lane * 4);
        o[0] += factor * __uint_as_float(x.x), o[1] += factor * __uint_as_float(x.y);
        o[2] += factor * __uint_as_float(x.z), o[3] += factor * __uint_as_float(x.w);
    }
    const float inverse = l == 0 ? 0 : 1 / l;
    if (lane == 0)
        static_cast<float*>(p.lse)[own.head * p.queries + at] = l == 0 ? -INF : LN_2 * (top + log2f(l));
    if (lane >= D / 4) return;
    const int64_t number = at * p.out.row + own.head * p.out.head + lane * 4;
    uint32_t* const out = static_cast<uint32_t*>(p.out.data) + number / 2;
    out[0] = pack<T>(o[0] * inverse, o[1] * inverse);
    out[1] = pack<T>(o[2] * inverse, o[3] * inverse);
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
