// Products on tensor cores: what each of a warp's 32 lanes holds. With g = lane / 4 and t = lane % 4,
//
//   A, 16 x 16   a[0] = row g, columns 2t 2t+1        a[1] = the same, row g + 8   a[2], a[3] = columns + 8
//   B, 16 x 8    b[0] = rows 2t 2t+1, column g        b[1] = the same, rows + 8
//   C, 16 x 8    c[0] c[1] = row g, columns 2t 2t+1   c[2] c[3] = row g + 8
//
// Two 16-bit numbers share a register of A or B. So two C's side by side, packed, are an A: a product can be
// a factor of the next one without going through memory. Four lanes, 4g to 4g + 3, hold a row of C.
#pragma once
#include "tiles.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;
constexpr float INF = __builtin_inff();

__device__ __forceinline__ int lane_id() { return threadIdx.x % 32; }
// Called by all lanes of a warp: after a shuffle, the compiler knows that the number is the same in all of
// them and keeps it out of the 255 registers of each.
__device__ __forceinline__ int warp_id() {
    return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
}

// Where a lane's row of an 8x8 matrix is, relative to the first byte of a tile. A lane that starts at chunk 0
// or 1 finds the matrices of every 16 columns at one of two places, and everything else is a constant:
// nothing is left to compute in a loop.
struct LaneOffset {
    int even, odd;  // columns 0-15 and 16-31 of a slab

    __device__ __forceinline__ LaneOffset(int row, int chunk)
        : even(row * 64 + (chunk ^ (row / 2 % 4)) * 16), odd(row * 64 + ((chunk + 2) ^ (row / 2 % 4)) * 16) {}

    // Rows from `row`, a multiple of 16, and columns [16 k, 16 k + 16).
    template <int ROWS, int D>
    __device__ __forceinline__ const unsigned char* in(const SharedTile<ROWS, D>& tile, int row,
                                                       int k) const {
        return tile.memory + (k % 2 ? odd : even) + (k / 2 * ROWS + row) * 64;
    }
};

// For A, and for B if the tile's rows are B's rows: lanes 0-15 give the rows of the left half, 16-31 those of
// the right.
__device__ __forceinline__ LaneOffset lanes_by_half() { return LaneOffset(lane_id() % 16, lane_id() / 16); }

// For B if the tile's rows are B's columns: lanes 0-15 give the halves of the upper eight rows, 16-31 those
// of the lower eight.
__device__ __forceinline__ LaneOffset lanes_by_row() {
    return LaneOffset(lane_id() % 8 + lane_id() / 16 * 8, lane_id() / 8 % 2);
}

// A: rows [row, row + 16) and columns [16 k, 16 k + 16) of a tile; lanes_by_half.
template <int ROWS, int D>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const SharedTile<ROWS, D>& tile, LaneOffset lane,
                                       int row, int k) {
    load_matrices(a, lane.in(tile, row, k));
}

// B twice, if the tile's rows are B's columns (K in Q K^T): columns [row, row + 8) and [row + 8, row + 16);
// lanes_by_row.
template <int ROWS, int D>
__device__ __forceinline__ void load_b_of_rows(uint32_t (&b)[2][2], const SharedTile<ROWS, D>& tile,
                                               LaneOffset lane, int row, int k) {
    uint32_t r[4];
    load_matrices(r, lane.in(tile, row, k));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// B twice, if the tile's rows are B's rows (V in P V): columns [16 n, 16 n + 8) and the eight after them;
// lanes_by_half.
template <int ROWS, int D>
__device__ __forceinline__ void load_b(uint32_t (&b)[2][2], const SharedTile<ROWS, D>& tile, LaneOffset lane,
                                       int row, int n) {
    uint32_t r[4];
    load_matrices_transposed(r, lane.in(tile, row, n));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// A from two C's: columns [16 k, 16 k + 16) of a row of C's.
template <class T, int N>
__device__ __forceinline__ void pack_a(uint32_t (&a)[4], const float (&c)[N][4], int k) {
    a[0] = pack<T>(c[2 * k][0], c[2 * k][1]);
    a[1] = pack<T>(c[2 * k][2], c[2 * k][3]);
    a[2] = pack<T>(c[2 * k + 1][0], c[2 * k + 1][1]);
    a[3] = pack<T>(c[2 * k + 1][2], c[2 * k + 1][3]);
}

// Negates the rows of a tile that only this warp uses, or sets them to 0.
template <int ROWS, int D>
__device__ __forceinline__ void negate_rows(const SharedTile<ROWS, D>& tile, int row, int rows,
                                            bool to_zero) {
    const uint32_t sign = 0x80008000u, keep = to_zero ? 0u : 0xffffffffu;
    for (int i = lane_id() / 4; i < rows; i += 8)
        for (int slab = 0; slab < D / 32; ++slab) {
            unsigned char* chunk = tile.at(row + i, slab * 4 + lane_id() % 4);
            const uint4 x = load16(chunk);
            store16(chunk, make_uint4((x.x ^ sign) & keep, (x.y ^ sign) & keep, (x.z ^ sign) & keep,
                                      (x.w ^ sign) & keep));
        }
    __syncwarp();
}

// Writes C's of 16 rows by D columns, times a factor for the upper and the lower eight rows, to rows [row,
// row + 16) of a tile that only this warp uses, and from there to global memory, whole sectors at a time;
// global rows end at `rows`.
template <class T, int ROWS, int D>
__device__ __forceinline__ void store_rows(const float (&c)[D / 8][4], float upper, float lower,
                                           const SharedTile<ROWS, D>& tile, int row, const Rows& to,
                                           int64_t first, int64_t rows, int64_t head) {
    const int g = lane_id() / 4, t = lane_id() % 4;
    __syncwarp();  // all lanes have read what was there
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
        *reinterpret_cast<uint32_t*>(tile.at(row + g, n) + t * 4) = pack<T>(c[n][0] * upper, c[n][1] * upper);
        *reinterpret_cast<uint32_t*>(tile.at(row + g + 8, n) + t * 4) =
            pack<T>(c[n][2] * lower, c[n][3] * lower);
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 16; half += 8) {
        if (half + g >= rows) continue;
        unsigned char* out =
            static_cast<unsigned char*>(to.data) + ((first + half + g) * to.row + head * to.head) * 2;
#pragma unroll
        for (int slab = 0; slab < D / 32; ++slab)
            store16(out + slab * 64 + t * 16, load16(tile.at(row + half + g, slab * 4 + t)));
    }
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
