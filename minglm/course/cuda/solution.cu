// Ten CUDA kernels, each a puzzle.

#include "puzzle.h"

// ---- Threads ---------------------------------------------------------------------------------------------

// 1. map: out[i] = 2 in[i], for one block with a thread for each number.
__global__ void map(Array<float> out, Array<const float> in) {
    // solution
    const int i = threadIdx.x;
    out[i] = 2 * in[i];
    // end
}

// 2. guard: the same for n numbers and several blocks of blockDim.x threads. The last block is too large, and
// its last threads must not touch anything.
__global__ void guard(Array<float> out, Array<const float> in, int n) {
    // solution
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2 * in[i];
    // end
}

// ---- Shared memory ---------------------------------------------------------------------------------------

// 3. tile: out[i] = in[i - 1] + in[i] + in[i + 1], where what is outside counts as 0. One block of 64
// threads. Each number of `in` may be read only once: put it into shared memory, where all threads of the
// block see it.
__global__ void tile(Array<float> out, Array<const float> in) {
    Array<float> tile = shared<float>(0, 64);  // numbers 0 to 63 of the block's shared memory
    // solution
    const int i = threadIdx.x;
    tile[i] = in[i];
    __syncthreads();
    float sum = tile[i];
    if (i > 0) sum += tile[i - 1];
    if (i < 63) sum += tile[i + 1];
    out[i] = sum;
    // end
}

// 4. two_barriers: `in` is `tiles` tiles of 64 numbers. out[i] is the sum over all tiles of number 63 - i of
// the tile. One block of 64 threads, and shared memory for one tile: load a tile, use it, load the next.
__global__ void two_barriers(Array<float> out, Array<const float> in, int tiles) {
    Array<float> tile = shared<float>(0, 64);
    // solution
    const int i = threadIdx.x;
    float sum = 0;
    for (int t = 0; t < tiles; ++t) {
        __syncthreads();  // nobody reads the last tile any more
        tile[i] = in[64 * t + i];
        __syncthreads();  // the tile is complete
        sum += tile[63 - i];
    }
    out[i] = sum;
    // end
}

// ---- Warps -----------------------------------------------------------------------------------------------

// 5. warp_max: each of the 32 numbers of `out` is the maximum of the 32 of `in`. One warp, no shared memory:
// __shfl_xor_sync(0xffffffff, x, n) gives the x of lane `lane ^ n`.
__global__ void warp_max(Array<float> out, Array<const float> in) {
    // solution
    float x = in[threadIdx.x];
    for (int n = 16; n > 0; n /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, n));
    out[threadIdx.x] = x;
    // end
}

// 6. online_softmax: out[0] = the maximum m of the n numbers of `in`, out[1] = the sum of expf(in[i] - m).
// One warp, n is a multiple of 32, and each number may be read only once: where the maximum grows, shrink the
// sum.
__global__ void online_softmax(Array<float> out, Array<const float> in, int n) {
    // solution
    float m = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < n; i += 32) {
        const float x = in[i], top = fmaxf(m, x);
        sum = sum * expf(m - top) + expf(x - top);
        m = top;
    }
    for (int step = 16; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffff, m, step);
        const float more = __shfl_xor_sync(0xffffffff, sum, step);
        const float top = fmaxf(m, other);
        sum = sum * expf(m - top) + more * expf(other - top);
        m = top;
    }
    if (threadIdx.x == 0) out[0] = m, out[1] = sum;
    // end
}

// ---- GLM on tiles ----------------------------------------------------------------------------------------

// 7. skip: under GLM's mask, row i sees the keys 0, ..., max(A, i + 1) - 1. out[i] = the sum of values[j]
// over the keys j that row i sees. Block i is row i, one warp; the keys are in tiles of 32. A tile that the
// row does not see must not be read.
__global__ void skip(Array<float> out, Array<const float> values, int A) {
    const int i = blockIdx.x;
    // solution
    const int visible = max(A, i + 1);
    float sum = 0;
    for (int first = 0; first < visible; first += 32) {
        const int j = first + threadIdx.x;
        if (j < visible) sum += values[j];
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (threadIdx.x == 0) out[i] = sum;
    // end
}

// 8. swizzle: transpose a 32 x 32 matrix, out[32 r + c] = in[32 c + r]. One warp; lane c reads and writes
// column c of a row at a time (neighbouring lanes, neighbouring numbers), so it goes through the 1,024
// numbers of `tile`. The 32 banks take one number each at a time: number n is in bank n % 32. No bank
// conflicts are allowed.
__global__ void swizzle(Array<float> out, Array<const float> in) {
    Array<float> tile = shared<float>(0, 1024);
    const int c = threadIdx.x;
    // solution
    for (int r = 0; r < 32; ++r) tile[32 * r + (c ^ r)] = in[32 * r + c];
    __syncwarp();
    for (int r = 0; r < 32; ++r) out[32 * r + c] = tile[32 * c + (r ^ c)];
    // end
}

// 9. fragment: one product of matrices on a tensor core, out = a b, 16 x 8 = 16 x 16 times 16 x 8, all row by
// row. A warp holds the matrices together. Lane l has g = l / 4 and t = l % 4, and holds
//     of a    rows g, g + 8, g, g + 8, two neighbours each: columns 2t, 2t, 2t + 8, 2t + 8 and the next one
//     of b    rows 2t and 2t + 8, and the next one of each, in column g
//     of out  rows g, g, g + 8, g + 8, columns 2t, 2t + 1, 2t, 2t + 1
// pack<bf16>(x, y) puts two neighbours into one register; multiply_add<bf16>(d, ra, rb) adds the product to
// d.
__global__ void fragment(Array<float> out, Array<const float> a, Array<const float> b) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t ra[4], rb[2];
    float d[4] = {0, 0, 0, 0};
    // solution
    for (int n = 0; n < 4; ++n) {
        const int row = g + 8 * (n % 2), column = 2 * t + 8 * (n / 2);
        ra[n] = pack<bf16>(a[16 * row + column], a[16 * row + column + 1]);
    }
    for (int n = 0; n < 2; ++n) {
        const int row = 2 * t + 8 * n;
        rb[n] = pack<bf16>(b[8 * row + g], b[8 * (row + 1) + g]);
    }
    multiply_add<bf16>(d, ra, rb);
    for (int n = 0; n < 4; ++n) out[8 * (g + 8 * (n / 2)) + 2 * t + n % 2] = d[n];
    // end
}

// ---- All together ----------------------------------------------------------------------------------------

// 10. forward: attention under GLM's mask with one head, width 32. q, k, v and out are T x 32, row by row.
// Block i is row i, one warp. In a tile of 32 keys a lane first has one key: its score is the sum of q[i, d]
// k[j, d] over d, divided by sqrtf(32). Then it has one column d of out: the sum of weight[j] v[j, d], so the
// weights of the tile go through shared memory. Weights are a softmax over all visible keys, computed online;
// tiles that the row does not see are not read.
__global__ void forward(Array<float> out, Array<const float> q, Array<const float> k,
                        Array<const float> v, int A) {
    Array<float> weight = shared<float>(0, 32);
    const int i = blockIdx.x, lane = threadIdx.x;
    // solution
    const int visible = max(A, i + 1);
    float m = -INFINITY, sum = 0, o = 0;
    for (int first = 0; first < visible; first += 32) {
        const int j = first + lane;
        float score = -INFINITY;
        if (j < visible) {
            score = 0;
            for (int d = 0; d < 32; ++d) score += q[32 * i + d] * k[32 * j + d];
            score /= sqrtf(32);
        }
        float top = fmaxf(m, score);
        for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, step));
        const float shrink = expf(m - top);
        __syncwarp();  // nobody reads the weights of the last tile any more
        weight[lane] = expf(score - top);
        __syncwarp();  // they are complete
        sum *= shrink, o *= shrink, m = top;
        for (int n = 0; n < min(32, visible - first); ++n) {
            sum += weight[n];
            o += weight[n] * v[32 * (first + n) + lane];
        }
    }
    out[32 * i + lane] = o / sum;
    // end
}
