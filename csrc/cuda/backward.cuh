// Backward on tensor cores, for bfloat16 and float16. It uses no atomics, so results repeat bit for bit.
//
//   grad_q_kernel     a block owns 64 query rows and walks over the keys they see:  dQ = scale dS K
//                     before that, delta = rowsum(dO * O), which it writes for the next kernel
//   grad_kv_kernel    a block owns 64 keys and walks over the rows that see them:   dK = scale dS^T Q,
//                                                                                   dV = P^T dO
//
//   P = 2^(c S - lse log2 e)    dP = dO V^T    dS = P * (dP - delta)       with c = scale log2 e
//
// Both walk over full tiles without a mask and over partial ones with it. Both recompute S and dP, which is
// two products more than one pass with atomics would need. A warp owns 16 rows (or keys). In grad_kv_kernel
// everything is transposed, S^T = K Q^T, so that P^T and dS^T are results of one product and the A of the
// next, and never leave the registers.
#pragma once
#include "mma.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

template <int D>
struct BackwardShape {
    static constexpr int threads = 128;
    static constexpr int own = threads / 32 * 16;       // rows (or keys) of a block
    static constexpr int walked = D <= 64 ? 64 : 32;    // keys (or rows) of a tile
    static constexpr bool hold_v = D <= 96;             // in registers; else V is reloaded for each tile
    static constexpr int stage_bytes = 2 * SharedTile<walked, D>::bytes;
    static constexpr int row_bytes = walked * 8;        // of each row of a tile: lse and delta; grad_kv only
    static constexpr int grad_q_bytes = 2 * SharedTile<own, D>::bytes + 2 * stage_bytes;
    static constexpr int grad_kv_bytes = grad_q_bytes + 2 * row_bytes;
};

// S and dP of a warp's 16 rows and a tile of columns, or S^T and dP^T of 16 keys and a tile of rows. left(d,
// a) returns in `a` the A of columns [16 d, 16 d + 16) of the warp's own rows.
template <int D, class T, int N, class Left>
__device__ __forceinline__ void product(float (&s)[N / 8][4], const Left& left, const SharedTile<N, D>& tile,
                                        LaneOffset by_row) {
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
        uint32_t a[4];
        left(d, a);
#pragma unroll
        for (int n = 0; n < N / 16; ++n) {
            uint32_t b[2][2];
            load_b_of_rows(b, tile, by_row, n * 16, d);
            multiply_add<T>(s[2 * n], a, b[0]);
            multiply_add<T>(s[2 * n + 1], a, b[1]);
        }
    }
}

// The `left` of fragments that are in registers.
template <int N>
__device__ __forceinline__ auto held(const uint32_t (&fragments)[N][4]) {
    return [&fragments](int d, uint32_t (&a)[4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = fragments[d][i];
    };
}

// sum += s tile: 16 rows of s as A, with as many columns as the tile has rows.
template <int D, class T, int N>
__device__ __forceinline__ void add_product(float (&sum)[D / 8][4], const float (&s)[N / 8][4],
                                            const SharedTile<N, D>& tile, LaneOffset by_half) {
#pragma unroll
    for (int k = 0; k < N / 16; ++k) {
        uint32_t a[4];
        pack_a<T>(a, s, k);
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            uint32_t b[2][2];
            load_b(b, tile, by_half, k * 16, n);
            multiply_add<T>(sum[2 * n], a, b[0]);
            multiply_add<T>(sum[2 * n + 1], a, b[1]);
        }
    }
}

// The log-sum-exp of a row, in powers of two; infinity for a row that does not exist, so that its P is 0.
__device__ __forceinline__ float lse_log2(const AttentionProblem& p, int64_t head, const Sample& sample,
                                          int row) {
    if (row >= sample.len_q) return INF;
    return static_cast<const float*>(p.lse)[head * p.queries + sample.first_q + row] * LOG2_E;
}

__device__ __forceinline__ float delta_of(const AttentionProblem& p, int64_t head, const Sample& sample,
                                          int row) {
    return row < sample.len_q ? p.delta[head * p.queries + sample.first_q + row] : 0;
}

// The first row that sees a key, counted from the sample's first query.
__device__ __forceinline__ int seen_from(const Sample& sample, int key) {
    return static_cast<int>(first_row_of_key(key, sample.part_a_len, sample.first_row) - sample.first_row);
}

// The sum of the products of eight pairs of 16-bit numbers.
template <class T>
__device__ __forceinline__ float dot8(uint4 x, uint4 y) {
    const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float2 a = unpack<T>(xs[i]), b = unpack<T>(ys[i]);
        sum += a.x * b.x + a.y * b.y;
    }
    return sum;
}

// ---- dQ ---------------------------------------------------------------------------------------------------

template <int D, class T>
struct GradQ {
    static constexpr int KEYS = BackwardShape<D>::walked;

    uint32_t q[D / 16][4], grad_out[D / 16][4];
    float grad_q[D / 8][4];
    float lse[2], delta[2];
    int visible[2];
    float c;
    LaneOffset by_half = lanes_by_half(), by_row = lanes_by_row();

    template <bool PARTIAL>
    __device__ __forceinline__ void visit(const SharedTile<KEYS, D>& k, const SharedTile<KEYS, D>& v,
                                          int begin) {
        float s[KEYS / 8][4] = {}, dp[KEYS / 8][4] = {};
        product<D, T, KEYS>(s, held(q), k, by_row);
        product<D, T, KEYS>(dp, held(grad_out), v, by_row);
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int key = begin + n * 8 + lane_id() % 4 * 2 + i % 2;
                const float prob = PARTIAL && key >= visible[i / 2] ? 0 : exp2_fast(c * s[n][i] - lse[i / 2]);
                s[n][i] = prob * (dp[n][i] - delta[i / 2]);
            }
        add_product<D, T, KEYS>(grad_q, s, k, by_half);
    }
};

template <int D, class T>
__global__ void __launch_bounds__(BackwardShape<D>::threads) grad_q_kernel(AttentionProblem p) {
    using Shape = BackwardShape<D>;
    constexpr int ROWS = Shape::own, KEYS = Shape::walked;
    const OwnRows own(p, gridDim.x - 1 - blockIdx.x, ROWS);
    if (own.none()) return;
    const Sample& sample = own.sample;
    const int64_t head = own.head;
    const int begin = own.begin, len_q = own.len_q;
    const int full = full_tiles(sample.first_row + begin, sample, KEYS);
    const int tiles = visited_tiles(sample.first_row + own.last, sample, KEYS);

    using OwnTile = SharedTile<ROWS, D>;
    const OwnTile q_tile{shared_memory()}, grad_tile{q_tile.memory + OwnTile::bytes};
    const KeyTiles<Shape::threads, KEYS, D, 2> keys(q_tile.memory + 2 * OwnTile::bytes, p, sample, head);
    auto fetch = [&](int j) {
        if (j < tiles) keys.fetch_k(j), keys.fetch_v(j);
        commit_copies();
    };
    copy_tile<Shape::threads>(q_tile, GlobalRows(p.q, sample.first_q, len_q, head), begin);
    copy_tile<Shape::threads>(grad_tile, GlobalRows(p.grad_out, sample.first_q, len_q, head), begin);
    fetch(0);

    // O meanwhile, as store_rows wrote it: four neighbouring lanes have a row.
    const int row = warp_id() * 16, g = lane_id() / 4, t = lane_id() % 4;
    const GlobalRows out(p.out, sample.first_q, len_q, head);
    uint4 chunks[2][D / 32];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int slab = 0; slab < D / 32; ++slab)
            chunks[half][slab] = load16(out.at(begin + row + half * 8 + g) + slab * 64 + t * 16);
    wait_copies<0>();
    __syncthreads();

    GradQ<D, T> state;
    state.c = static_cast<float>(p.scale) * LOG2_E;
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
        load_a(state.q[d], q_tile, state.by_half, row, d);
        load_a(state.grad_out[d], grad_tile, state.by_half, row, d);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = begin + row + half * 8 + g;
        float delta = 0;
#pragma unroll
        for (int slab = 0; slab < D / 32; ++slab)
            delta += dot8<T>(chunks[half][slab], load16(grad_tile.at(row + half * 8 + g, slab * 4 + t)));
        delta += __shfl_xor_sync(0xffffffffu, delta, 1);
        delta += __shfl_xor_sync(0xffffffffu, delta, 2);
        if (t == 0 && r < len_q) p.delta[head * p.queries + sample.first_q + r] = delta;
        state.delta[half] = delta;
        state.lse[half] = lse_log2(p, head, sample, r);
        state.visible[half] = keys_seen(sample, r);
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) state.grad_q[n][i] = 0;

    // Of the block's tiles, a warp computes those that its own last row sees; none without a row of its own.
    const int mine = tiles_of_warp(begin + row, 16, sample, KEYS);
    int j = 0;
    for (; j < full; ++j) {
        wait_copies<0>();
        __syncthreads();
        fetch(j + 1);
        if (begin + row < len_q) state.template visit<false>(keys.k_tile(j), keys.v_tile(j), j * KEYS);
    }
    for (; j < tiles; ++j) {
        wait_copies<0>();
        __syncthreads();
        fetch(j + 1);
        if (j < mine) state.template visit<true>(keys.k_tile(j), keys.v_tile(j), j * KEYS);
    }
    const int r = begin + row;
    const float scale = static_cast<float>(p.scale);
    store_rows<T>(state.grad_q, scale, scale, q_tile, row, p.grad_q, sample.first_q + r, len_q - r, head);
}

// ---- dK and dV --------------------------------------------------------------------------------------------

// What a column of S^T needs to know about its query row.
template <int ROWS>
struct RowTable {
    float* lse;
    float* delta;

    __device__ __forceinline__ explicit RowTable(unsigned char* memory)
        : lse(reinterpret_cast<float*>(memory)), delta(lse + ROWS) {}
    __device__ __forceinline__ RowTable(float* lse, float* delta) : lse(lse), delta(delta) {}
};

template <int D, class T>
struct GradKV {
    static constexpr int ROWS = BackwardShape<D>::walked;
    static constexpr bool HOLD_V = BackwardShape<D>::hold_v;
    using RowTile = SharedTile<ROWS, D>;

    SharedTile<BackwardShape<D>::own, D> v_tile;
    int v_row;  // the first of this warp
    uint32_t k[D / 16][4], v[HOLD_V ? D / 16 : 1][4];
    float grad_k[D / 8][4], grad_v[D / 8][4];
    int seen_from[2];  // of this lane's two keys: the first row that sees it, counted from the first tile's
    float c;
    LaneOffset by_half = lanes_by_half(), by_row = lanes_by_row();

    template <bool PARTIAL>
    __device__ __forceinline__ void visit(const RowTile& q, const RowTile& grad_out,
                                          const RowTable<ROWS>& rows, int begin) {
        float ds[ROWS / 8][4];
        visit<PARTIAL>(q, grad_out, rows, begin, ds);
    }

    // The same; returns dS^T.
    template <bool PARTIAL>
    __device__ __forceinline__ void visit(const RowTile& q, const RowTile& grad_out,
                                          const RowTable<ROWS>& rows, int begin, float (&dp)[ROWS / 8][4]) {
        float s[ROWS / 8][4] = {};
#pragma unroll
        for (int n = 0; n < ROWS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) dp[n][i] = 0;
        product<D, T, ROWS>(s, held(k), q, by_row);
        if constexpr (HOLD_V)
            product<D, T, ROWS>(dp, held(v), grad_out, by_row);
        else
            product<D, T, ROWS>(
                dp, [&](int d, uint32_t (&a)[4]) { load_a(a, v_tile, by_half, v_row, d); }, grad_out, by_row);
#pragma unroll
        for (int n = 0; n < ROWS / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int row = n * 8 + lane_id() % 4 * 2 + i % 2;
                const bool hidden = PARTIAL && row < seen_from[i / 2] - begin;
                s[n][i] = hidden ? 0 : exp2_fast(c * s[n][i] - rows.lse[row]);
                dp[n][i] = s[n][i] * (dp[n][i] - rows.delta[row]);
            }
        add_product<D, T, ROWS>(grad_v, s, grad_out, by_half);
        add_product<D, T, ROWS>(grad_k, dp, q, by_half);
    }
};

template <int D, class T>
__global__ void __launch_bounds__(BackwardShape<D>::threads) grad_kv_kernel(AttentionProblem p) {
    using Shape = BackwardShape<D>;
    constexpr int KEYS = Shape::own, ROWS = Shape::walked;
    const int64_t head = blockIdx.y;
    // the first blocks have the most to do: the first keys are seen by the most rows
    const Place place = place_of(blockIdx.x, p.cu_seqlens_k, p.samples, KEYS);
    const Sample sample = sample_of(p, place.sample);
    const int begin = static_cast<int>(place.begin), len_q = static_cast<int>(sample.len_q);
    const int len_k = static_cast<int>(sample.len_k);
    if (begin >= len_k) return;

    // Tiles of rows, counted from the first row that sees the first key; those before `full` contain a row
    // that does not see the last one.
    const int end = begin + KEYS < len_k ? begin + KEYS : len_k;
    const int first = seen_from(sample, begin);
    const int whole = seen_from(sample, end - 1);
    const int tiles = first < len_q ? (len_q - first + ROWS - 1) / ROWS : 0;
    const int full = (whole - first + ROWS - 1) / ROWS;

    unsigned char* shared = shared_memory();
    using OwnTile = SharedTile<KEYS, D>;
    using RowTile = SharedTile<ROWS, D>;
    const OwnTile k_tile{shared}, v_tile{shared + OwnTile::bytes};
    auto q_tile = [&](int j) { return RowTile{shared + 2 * OwnTile::bytes + j % 2 * Shape::stage_bytes}; };
    auto grad_tile = [&](int j) { return RowTile{q_tile(j).memory + RowTile::bytes}; };
    auto rows_of = [&](int j) {
        return RowTable<ROWS>(shared + 2 * OwnTile::bytes + 2 * Shape::stage_bytes +
                              j % 2 * Shape::row_bytes);
    };
    const GlobalRows q(p.q, sample.first_q, len_q, head), grad_out(p.grad_out, sample.first_q, len_q, head);
    auto fetch = [&](int j) {
        if (j < tiles) {
            copy_tile<Shape::threads>(q_tile(j), q, first + j * ROWS);
            copy_tile<Shape::threads>(grad_tile(j), grad_out, first + j * ROWS);
        }
        commit_copies();
    };
    // The table of tile j: read from global memory before tile j - 1 is computed, and stored after.
    const int own_row = threadIdx.x;
    float lse = 0, delta = 0;
    auto read_row = [&](int j) {
        if (own_row < ROWS && j < tiles) {
            lse = lse_log2(p, head, sample, first + j * ROWS + own_row);
            delta = delta_of(p, head, sample, first + j * ROWS + own_row);
        }
    };
    auto write_row = [&](int j) {
        if (own_row < ROWS && j < tiles) {
            const RowTable<ROWS> rows = rows_of(j);
            rows.lse[own_row] = lse;
            rows.delta[own_row] = delta;
        }
    };
    copy_tile<Shape::threads>(k_tile, GlobalRows(p.k, sample.first_k, len_k, head), begin);
    copy_tile<Shape::threads>(v_tile, GlobalRows(p.v, sample.first_k, len_k, head), begin);
    fetch(0);
    read_row(0);
    write_row(0);
    wait_copies<0>();
    __syncthreads();

    GradKV<D, T> state;
    state.c = static_cast<float>(p.scale) * LOG2_E;
    const int key = warp_id() * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half)
        state.seen_from[half] = seen_from(sample, begin + key + half * 8 + lane_id() / 4) - first;
    state.v_tile = v_tile;
    state.v_row = key;
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
        load_a(state.k[d], k_tile, state.by_half, key, d);
        if constexpr (Shape::hold_v) load_a(state.v[d], v_tile, state.by_half, key, d);
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) state.grad_k[n][i] = state.grad_v[n][i] = 0;

    // A warp computes nothing before the tile with the first row that sees its first key, and nothing at all
    // without a key of its own.
    const int mine = begin + key < len_k ? (seen_from(sample, begin + key) - first) / ROWS : tiles;
    int j = 0;
    for (; j < full && j < tiles; ++j) {
        wait_copies<0>();
        __syncthreads();
        fetch(j + 1);
        read_row(j + 1);
        if (j >= mine) state.template visit<true>(q_tile(j), grad_tile(j), rows_of(j), j * ROWS);
        write_row(j + 1);
    }
    for (; j < tiles; ++j) {
        wait_copies<0>();
        __syncthreads();
        fetch(j + 1);
        read_row(j + 1);
        if (begin + key < len_k)
            state.template visit<false>(q_tile(j), grad_tile(j), rows_of(j), j * ROWS);
        write_row(j + 1);
    }
    const int64_t first_key = sample.first_k + begin + key, keys = len_k - begin - key;
    store_rows<T>(state.grad_k, static_cast<float>(p.scale), static_cast<float>(p.scale), k_tile, key,
                  p.grad_k, first_key, keys, head);
    store_rows<T>(state.grad_v, 1, 1, v_tile, key, p.grad_v, first_key, keys, head);
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
