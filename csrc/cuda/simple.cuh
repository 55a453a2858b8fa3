// float32 on any GPU, written to be read: the same walk over tiles as the tensor-core kernels, with only
// loops, shared memory and one exchange between the lanes of a warp.
//
//   block    16 rows: four warps with four rows each                tile    32 columns, one per lane
//   lane     the score of its warp's four rows and its own column, so a row's maximum and sum go across the
//            warp; then the columns d = lane, lane + 32, ... of the results of its four rows
//
//   rows            columns        for each tile
//   queries         keys           forward_simple:  S, the online softmax, O += P V
//   queries         keys           grad_q_simple:   S, dP, dQ += dS K
//   keys            queries        grad_kv_simple:  S^T, dP^T, dV += P^T dO, dK += dS^T Q
//
// The other lanes need what a lane computed for its column as factors: P and dS pass through shared memory,
// after a __syncwarp.
#pragma once
#include "backward.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

struct SimpleShape {
    static constexpr int threads = 128, warps = 4, per_warp = 4;
    static constexpr int rows = warps * per_warp, columns = 32;
};

// Bytes of shared memory for `own` matrices of the block's own rows, `tiles` of the tile's (with one column
// more, so that lanes that read the same d of 32 rows find it in 32 different banks), and `factors` of the
// factors of each warp's rows.
template <int D>
constexpr int simple_bytes(int own, int tiles, int factors) {
    return 4 * (own * SimpleShape::rows * D + tiles * SimpleShape::columns * (D + 1) +
                factors * SimpleShape::rows * SimpleShape::columns);
}

// Loads ROWS rows of D numbers from `begin` on into shared memory, WIDTH numbers apart; rows that do not
// exist become zeros.
template <int ROWS, int D, int WIDTH>
__device__ __forceinline__ void load_rows(float* to, const Rows& from, int64_t first, int64_t rows,
                                          int64_t head, int begin) {
    const float* x = static_cast<const float*>(from.data) + head * from.head;
    for (int i = threadIdx.x; i < ROWS * D; i += SimpleShape::threads) {
        const int row = begin + i / D, d = i % D;
        to[i / D * WIDTH + d] = row < rows ? x[(first + row) * from.row + d] : 0;
    }
}

// Scores of the warp's four rows with the lane's column: a sum of short sums, which rounds less than one long
// sum.
template <int D>
__device__ __forceinline__ void dots(float (&s)[SimpleShape::per_warp], const float* rows,
                                     const float* column) {
    for (int r = 0; r < SimpleShape::per_warp; ++r) s[r] = 0;
    for (int begin = 0; begin < D; begin += 8) {
        float part[SimpleShape::per_warp] = {};
#pragma unroll
        for (int d = begin; d < begin + 8; ++d) {
            const float x = column[d];
#pragma unroll
            for (int r = 0; r < SimpleShape::per_warp; ++r) part[r] += rows[r * D + d] * x;
        }
        for (int r = 0; r < SimpleShape::per_warp; ++r) s[r] += part[r];
    }
}

// sums += factors columns: the factors are those of the warp's four rows; a lane sums its own d of every
// column.
template <int D>
__device__ __forceinline__ void add_columns(float (&sums)[SimpleShape::per_warp][D / 32],
                                            const float* factors, const float* columns) {
#pragma unroll 4
    for (int j = 0; j < SimpleShape::columns; ++j)
#pragma unroll
        for (int i = 0; i < D / 32; ++i) {
            const float x = columns[j * (D + 1) + i * 32 + lane_id()];
#pragma unroll
            for (int r = 0; r < SimpleShape::per_warp; ++r)
                sums[r][i] += factors[r * SimpleShape::columns + j] * x;
        }
}

template <int D>
__device__ __forceinline__ void clear(float (&sums)[SimpleShape::per_warp][D / 32]) {
#pragma unroll
    for (int r = 0; r < SimpleShape::per_warp; ++r)
#pragma unroll
        for (int i = 0; i < D / 32; ++i) sums[r][i] = 0;
}

// Writes the warp's four rows times `factor` to global memory; `row` is the first of them within the sample.
template <int D>
__device__ __forceinline__ void store_sums(const float (&sums)[SimpleShape::per_warp][D / 32], float factor,
                                           const Rows& to, int64_t first, int row, int64_t rows,
                                           int64_t head) {
    float* x = static_cast<float*>(to.data) + head * to.head;
#pragma unroll
    for (int r = 0; r < SimpleShape::per_warp; ++r)
#pragma unroll
        for (int i = 0; i < D / 32; ++i)
            if (row + r < rows) x[(first + row + r) * to.row + i * 32 + lane_id()] = sums[r][i] * factor;
}

template <int D>
__global__ void __launch_bounds__(SimpleShape::threads) forward_simple(AttentionProblem p) {
    constexpr int ROWS = SimpleShape::rows, KEYS = SimpleShape::columns, MINE = SimpleShape::per_warp;
    const int64_t head = blockIdx.y;
    const Place place = place_of(gridDim.x - 1 - blockIdx.x, p.cu_seqlens_q, p.samples, ROWS);
    const Sample sample = sample_of(p, place.sample);
    const int begin = static_cast<int>(place.begin), len_q = static_cast<int>(sample.len_q);
    if (begin >= len_q) return;

    float* q = reinterpret_cast<float*>(shared_memory());
    float *k = q + ROWS * D, *v = k + KEYS * (D + 1), *probs = v + KEYS * (D + 1);
    const float* my_q = q + warp_id() * MINE * D;
    float* my_probs = probs + warp_id() * MINE * KEYS;
    const int row = begin + warp_id() * MINE;  // the first of this warp
    const int last = begin + ROWS < len_q ? begin + ROWS - 1 : len_q - 1;
    const int full = full_tiles(sample.first_row + begin, sample, KEYS);
    const int tiles = visited_tiles(sample.first_row + last, sample, KEYS);
    const float scale = static_cast<float>(p.scale);

    float m[MINE], l[MINE], o[MINE][D / 32];
    int visible[MINE];
    for (int r = 0; r < MINE; ++r) {
        m[r] = -INF, l[r] = 0;
        visible[r] = keys_seen(sample, row + r);
    }
    clear<D>(o);
    load_rows<ROWS, D, D>(q, p.q, sample.first_q, len_q, head, begin);
    for (int j = 0; j < tiles; ++j) {
        __syncthreads();  // no thread still reads the previous tile
        load_rows<KEYS, D, D + 1>(k, p.k, sample.first_k, sample.len_k, head, j * KEYS);
        load_rows<KEYS, D, D + 1>(v, p.v, sample.first_k, sample.len_k, head, j * KEYS);
        __syncthreads();
        float s[MINE];
        dots<D>(s, my_q, k + lane_id() * (D + 1));
        for (int r = 0; r < MINE; ++r) {
            s[r] *= scale;
            if (j >= full && j * KEYS + lane_id() >= visible[r]) s[r] = -INF;
            float top = fmaxf(m[r], s[r]);
            for (int step = 16; step; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
            const float base = top == -INF ? 0 : top;  // no key seen so far
            const float shrink = expf(m[r] - base), prob = expf(s[r] - base);
            my_probs[r * KEYS + lane_id()] = prob;
            m[r] = top;
            l[r] = l[r] * shrink + prob;
            for (int i = 0; i < D / 32; ++i) o[r][i] *= shrink;
        }
        __syncwarp();
        add_columns<D>(o, my_probs, v);
    }
    for (int r = 0; r < MINE; ++r) {
        for (int step = 16; step; step /= 2) l[r] += __shfl_xor_sync(0xffffffffu, l[r], step);
        for (int i = 0; i < D / 32; ++i) o[r][i] = l[r] == 0 ? 0 : o[r][i] / l[r];
        if (lane_id() == 0 && row + r < len_q)
            static_cast<float*>(p.lse)[head * p.queries + sample.first_q + row + r] =
                l[r] == 0 ? -INF : m[r] + logf(l[r]);
    }
    store_sums<D>(o, 1, p.out, sample.first_q, row, len_q, head);
}

// The log-sum-exp of a row; infinity for one that does not exist, so that its P is 0.
__device__ __forceinline__ float lse_of(const AttentionProblem& p, int64_t head, const Sample& sample,
                                        int row) {
    if (row >= sample.len_q) return INF;
    return static_cast<const float*>(p.lse)[head * p.queries + sample.first_q + row];
}

// delta = rowsum(dO * O) of a row, which the warp computes together and writes for grad_kv_simple; 0 for a
// row that does not exist.
template <int D>
__device__ __forceinline__ float new_delta(const AttentionProblem& p, int64_t head, const Sample& sample,
                                           int row) {
    const int64_t n = sample.first_q + row;
    const float* out = static_cast<const float*>(p.out.data) + n * p.out.row + head * p.out.head;
    const float* grad =
        static_cast<const float*>(p.grad_out.data) + n * p.grad_out.row + head * p.grad_out.head;
    float sum = 0;
    for (int d = lane_id(); d < D && row < sample.len_q; d += 32) sum += out[d] * grad[d];
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane_id() == 0 && row < sample.len_q) p.delta[head * p.queries + n] = sum;
    return sum;
}

template <int D>
__global__ void __launch_bounds__(SimpleShape::threads) grad_q_simple(AttentionProblem p) {
    constexpr int ROWS = SimpleShape::rows, KEYS = SimpleShape::columns, MINE = SimpleShape::per_warp;
    const int64_t head = blockIdx.y;
    const Place place = place_of(gridDim.x - 1 - blockIdx.x, p.cu_seqlens_q, p.samples, ROWS);
    const Sample sample = sample_of(p, place.sample);
    const int begin = static_cast<int>(place.begin), len_q = static_cast<int>(sample.len_q);
    if (begin >= len_q) return;

    float* q = reinterpret_cast<float*>(shared_memory());
    float *grad_out = q + ROWS * D, *k = grad_out + ROWS * D, *v = k + KEYS * (D + 1),
          *factors = v + KEYS * (D + 1);
    const float *my_q = q + warp_id() * MINE * D, *my_grad = grad_out + warp_id() * MINE * D;
    float* my_factors = factors + warp_id() * MINE * KEYS;
    const int row = begin + warp_id() * MINE;
    const int last = begin + ROWS < len_q ? begin + ROWS - 1 : len_q - 1;
    const int full = full_tiles(sample.first_row + begin, sample, KEYS);
    const int tiles = visited_tiles(sample.first_row + last, sample, KEYS);
    const float scale = static_cast<float>(p.scale);

    float lse[MINE], delta[MINE], grad_q[MINE][D / 32];
    int visible[MINE];
    for (int r = 0; r < MINE; ++r) {
        lse[r] = lse_of(p, head, sample, row + r);
        delta[r] = new_delta<D>(p, head, sample, row + r);
        visible[r] = keys_seen(sample, row + r);
    }
    clear<D>(grad_q);
    load_rows<ROWS, D, D>(q, p.q, sample.first_q, len_q, head, begin);
    load_rows<ROWS, D, D>(grad_out, p.grad_out, sample.first_q, len_q, head, begin);
    for (int j = 0; j < tiles; ++j) {
        __syncthreads();
        load_rows<KEYS, D, D + 1>(k, p.k, sample.first_k, sample.len_k, head, j * KEYS);
        load_rows<KEYS, D, D + 1>(v, p.v, sample.first_k, sample.len_k, head, j * KEYS);
        __syncthreads();
        float s[MINE], dp[MINE];
        dots<D>(s, my_q, k + lane_id() * (D + 1));
        dots<D>(dp, my_grad, v + lane_id() * (D + 1));
        for (int r = 0; r < MINE; ++r) {
            const bool hidden = j >= full && j * KEYS + lane_id() >= visible[r];
            const float prob = hidden ? 0 : expf(scale * s[r] - lse[r]);
            my_factors[r * KEYS + lane_id()] = prob * (dp[r] - delta[r]);
        }
        __syncwarp();
        add_columns<D>(grad_q, my_factors, k);
    }
    store_sums<D>(grad_q, scale, p.grad_q, sample.first_q, row, len_q, head);
}

template <int D>
__global__ void __launch_bounds__(SimpleShape::threads) grad_kv_simple(AttentionProblem p) {
    constexpr int KEYS = SimpleShape::rows, ROWS = SimpleShape::columns, MINE = SimpleShape::per_warp;
    const int64_t head = blockIdx.y;
    const Place place = place_of(blockIdx.x, p.cu_seqlens_k, p.samples, KEYS);
    const Sample sample = sample_of(p, place.sample);
    const int begin = static_cast<int>(place.begin), len_q = static_cast<int>(sample.len_q);
    const int len_k = static_cast<int>(sample.len_k);
    if (begin >= len_k) return;

    float* k = reinterpret_cast<float*>(shared_memory());
    float *v = k + KEYS * D, *q = v + KEYS * D, *grad_out = q + ROWS * (D + 1),
          *probs = grad_out + ROWS * (D + 1);
    const float *my_k = k + warp_id() * MINE * D, *my_v = v + warp_id() * MINE * D;
    float *my_probs = probs + warp_id() * MINE * ROWS, *my_factors = my_probs + KEYS * ROWS;
    const int key = begin + warp_id() * MINE;
    const int first =
        static_cast<int>(first_row_of_key(begin, sample.part_a_len, sample.first_row) - sample.first_row);
    const float scale = static_cast<float>(p.scale);

    float grad_k[MINE][D / 32], grad_v[MINE][D / 32];
    clear<D>(grad_k);
    clear<D>(grad_v);
    load_rows<KEYS, D, D>(k, p.k, sample.first_k, len_k, head, begin);
    load_rows<KEYS, D, D>(v, p.v, sample.first_k, len_k, head, begin);
    for (int i = first; i < len_q; i += ROWS) {
        __syncthreads();
        load_rows<ROWS, D, D + 1>(q, p.q, sample.first_q, len_q, head, i);
        load_rows<ROWS, D, D + 1>(grad_out, p.grad_out, sample.first_q, len_q, head, i);
        __syncthreads();
        const int row = i + lane_id();
        const float lse = lse_of(p, head, sample, row), delta = delta_of(p, head, sample, row);
        const int visible = keys_seen(sample, row);
        float s[MINE], dp[MINE];
        dots<D>(s, my_k, q + lane_id() * (D + 1));
        dots<D>(dp, my_v, grad_out + lane_id() * (D + 1));
        for (int r = 0; r < MINE; ++r) {
            const float prob = key + r >= visible ? 0 : expf(scale * s[r] - lse);
            my_probs[r * ROWS + lane_id()] = prob;
            my_factors[r * ROWS + lane_id()] = prob * (dp[r] - delta);
        }
        __syncwarp();
        add_columns<D>(grad_v, my_probs, grad_out);
        add_columns<D>(grad_k, my_factors, q);
    }
    store_sums<D>(grad_k, scale, p.grad_k, sample.first_k, key, len_k, head);
    store_sums<D>(grad_v, 1, p.grad_v, sample.first_k, key, len_k, head);
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
