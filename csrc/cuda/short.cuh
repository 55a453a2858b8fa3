// Backward of short samples on tensor cores, in one kernel: five products for each tile instead of the seven
// of backward.cuh, still without atomics, so results repeat bit for bit.
//
//   block    one sample and head; eight warps. It walks over tiles of 128 keys, 16 for each warp, and for
//            each over the tiles of 64 rows that see some of them
//   keys     S^T = K Q^T    dP^T = V dO^T    dV += P^T dO    dK += dS^T Q      as in grad_kv_kernel
//   rows     dS^T goes to shared memory; a barrier later each warp takes 16 rows, half of the columns, and
//            all 128 keys:  dQ += dS K
//
// dQ of the whole sample stays in shared memory in float32: that is what limits the rows. A number of dQ
// belongs to one lane, so it needs no barrier, and is laid out as that lane's part of C.
#pragma once
#include "backward.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

template <int D>
struct ShortShape {
    static_assert(D == 64, "half of the columns are a slab");
    static constexpr int threads = 256, warps = threads / 32;
    static constexpr int keys = 16 * warps, rows = 64;  // of a tile
    static constexpr int most_rows = 640;               // of a sample: what fits in 227 KiB
    using KeyTile = SharedTile<keys, D>;
    using RowTile = SharedTile<rows, D>;
    using GradS = SharedTile<keys, rows>;  // dS^T, in the place of V, which each warp has in registers

    MINGLM_HOST_DEVICE static constexpr int row_tiles(int longest) { return (longest + rows - 1) / rows; }
    static constexpr int tile_bytes = 2 * KeyTile::bytes + 2 * RowTile::bytes;
    // for each row of the sample: lse and delta, and dQ
    MINGLM_HOST_DEVICE static constexpr int bytes(int longest) {
        return tile_bytes + row_tiles(longest) * rows * (8 + D * 4);
    }
};

template <int D, class T>
__global__ void __launch_bounds__(ShortShape<D>::threads) grad_short_kernel(AttentionProblem p) {
    using Shape = ShortShape<D>;
    constexpr int KEYS = Shape::keys, ROWS = Shape::rows;
    const int64_t head = blockIdx.y;
    const Sample sample = sample_of(p, blockIdx.x);
    const int len_q = static_cast<int>(sample.len_q), len_k = static_cast<int>(sample.len_k);
    const int row_tiles = Shape::row_tiles(len_q);
    const int warp = warp_id(), g = lane_id() / 4, t = lane_id() % 4;
    const LaneOffset by_half = lanes_by_half(), by_row = lanes_by_row();
    const float scale = static_cast<float>(p.scale);

    unsigned char* const shared = shared_memory();
    const typename Shape::KeyTile k_tile{shared}, v_tile{shared + Shape::KeyTile::bytes};
    const typename Shape::GradS ds_tile{v_tile.memory};
    const typename Shape::RowTile q_tile{v_tile.memory + Shape::KeyTile::bytes};
    const typename Shape::RowTile grad_tile{q_tile.memory + Shape::RowTile::bytes};
    float* const lse = reinterpret_cast<float*>(shared + Shape::tile_bytes);
    float* const delta = lse + row_tiles * ROWS;
    // this lane's part of dQ: of 16 rows and half of the columns of each tile
    const int mine = warp % 4 * 16, half = warp / 4;
    float* const own = delta + row_tiles * ROWS + threadIdx.x * 4;
    auto own_part = [&](int tile, int n) { return own + (tile * (D / 16) + n) * Shape::threads * 4; };
    auto read_own = [&](int tile, float (&x)[D / 16][4]) {
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            const uint4 bits = load16(own_part(tile, n));
            x[n][0] = __uint_as_float(bits.x), x[n][1] = __uint_as_float(bits.y);
            x[n][2] = __uint_as_float(bits.z), x[n][3] = __uint_as_float(bits.w);
        }
    };

    // delta = rowsum(dO * O): four neighbouring lanes have a row
    const GlobalRows q(p.q, sample.first_q, len_q, head), grad_out(p.grad_out, sample.first_q, len_q, head);
    const GlobalRows out(p.out, sample.first_q, len_q, head);
    for (int first = 0; first < row_tiles * ROWS; first += Shape::threads / 4) {
        const int row = first + threadIdx.x / 4;
        float sum = 0;
#pragma unroll
        for (int slab = 0; slab < D / 32; ++slab)
            sum += dot8<T>(load16(out.at(row) + slab * 64 + t * 16),
                           load16(grad_out.at(row) + slab * 64 + t * 16));
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (t == 0) lse[row] = lse_log2(p, head, sample, row), delta[row] = row < len_q ? sum : 0;
    }
    for (int tile = 0; tile < row_tiles; ++tile)
#pragma unroll
        for (int n = 0; n < D / 16; ++n) store16(own_part(tile, n), make_uint4(0, 0, 0, 0));

    auto fetch = [&](int j) {
        if (j < row_tiles) {
            copy_tile<Shape::threads>(q_tile, q, j * ROWS);
            copy_tile<Shape::threads>(grad_tile, grad_out, j * ROWS);
        }
        commit_copies();
    };
    const GlobalRows k(p.k, sample.first_k, len_k, head), v(p.v, sample.first_k, len_k, head);
    for (int begin = 0; begin < len_k; begin += KEYS) {
        __syncthreads();  // no warp still reads or writes the tiles of the keys before
        copy_tile<Shape::threads>(k_tile, k, begin);
        copy_tile<Shape::threads>(v_tile, v, begin);
        const int first = seen_from(sample, begin) / ROWS;
        fetch(first);
        wait_copies<0>();
        __syncthreads();

        GradKV<D, T> state;
        state.c = scale * LOG2_E;
        const int key = warp * 16;
#pragma unroll
        for (int i = 0; i < 2; ++i) state.seen_from[i] = seen_from(sample, begin + key + i * 8 + g);
#pragma unroll
        for (int d = 0; d < D / 16; ++d) {
            load_a(state.k[d], k_tile, by_half, key, d);
            load_a(state.v[d], v_tile, by_half, key, d);
        }
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) state.grad_k[n][i] = state.grad_v[n][i] = 0;

        // the tiles of rows before `full` have a row that does not see the last key
        const int full = seen_from(sample, begin + KEYS - 1);
        for (int j = first; j < row_tiles; ++j) {
            wait_copies<0>();
            __syncthreads();  // the rows have arrived, and no warp still reads dS
            // the keys that the tile's last row sees; a warp without any of them computes nothing
            const int last = (j + 1) * ROWS < len_q ? (j + 1) * ROWS - 1 : len_q - 1;
            const int seen = keys_seen(sample, last) - begin;
            if (key < seen) {
                float ds[ROWS / 8][4];
                const RowTable<ROWS> table(lse + j * ROWS, delta + j * ROWS);
                if (j * ROWS < full) {
                    state.template visit<true>(q_tile, grad_tile, table, j * ROWS, ds);
                } else {
                    state.template visit<false>(q_tile, grad_tile, table, j * ROWS, ds);
                }
#pragma unroll
                for (int n = 0; n < ROWS / 8; ++n) {
                    unsigned char *upper = ds_tile.at(key + g, n), *lower = ds_tile.at(key + g + 8, n);
                    *reinterpret_cast<uint32_t*>(upper + t * 4) = pack<T>(ds[n][0], ds[n][1]);
                    *reinterpret_cast<uint32_t*>(lower + t * 4) = pack<T>(ds[n][2], ds[n][3]);
                }
            }
            __syncthreads();  // dS is there, and no warp still reads the rows
            fetch(j + 1);

            float grad_q[D / 16][4];
            read_own(j, grad_q);
#pragma unroll
            for (int i = 0; i < KEYS; i += 16) {
                if (i >= seen) break;
                uint32_t a[4];
                load_matrices_transposed(a, by_row.in(ds_tile, i, mine / 16));
#pragma unroll
                for (int n = 0; n < D / 32; ++n) {
                    uint32_t b[2][2];
                    load_b(b, k_tile, by_half, i, half * (D / 32) + n);
                    multiply_add<T>(grad_q[2 * n], a, b[0]);
                    multiply_add<T>(grad_q[2 * n + 1], a, b[1]);
                }
            }
#pragma unroll
            for (int n = 0; n < D / 16; ++n)
                store16(own_part(j, n),
                        make_uint4(__float_as_uint(grad_q[n][0]), __float_as_uint(grad_q[n][1]),
                                   __float_as_uint(grad_q[n][2]), __float_as_uint(grad_q[n][3])));
        }
        __syncthreads();  // no warp still reads K or dS
        const int64_t first_key = sample.first_k + begin + key, rest = len_k - begin - key;
        store_rows<T>(state.grad_k, scale, scale, k_tile, key, p.grad_k, first_key, rest, head);
        store_rows<T>(state.grad_v, 1, 1, v_tile, key, p.grad_v, first_key, rest, head);
    }

    // through the rows of K that are the warp's own; since the barrier above no other warp reads them
    const SharedTile<16 * Shape::warps, D / 2> to_tile{shared};
    const Rows to = {static_cast<unsigned char*>(p.grad_q.data) + half * D, p.grad_q.row, p.grad_q.head};
    for (int j = 0; j < row_tiles; ++j) {
        float grad_q[D / 16][4];
        read_own(j, grad_q);
        const int row = j * ROWS + mine;
        store_rows<T>(grad_q, scale, scale, to_tile, warp * 16, to, sample.first_q + row, len_q - row, head);
    }
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
