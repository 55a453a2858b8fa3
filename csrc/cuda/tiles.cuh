// Which tile a block works on, and how a tile is stored in shared memory.
//
// The block list is a closed formula of the lengths, so nothing has to be computed, stored or copied before a
// launch, and a captured CUDA graph stays correct when the lengths change. With tiles of n rows, sample s
// owns the places from cu_seqlens[s] / n + s up to cu_seqlens[s + 1] / n + s + 1: enough for all of its
// tiles, with at most one to spare. There are rows / n + samples places in total, and a block finds the
// sample of its place by a search in which 32 lanes look at 32 samples at once: two rounds for up to 1024
// samples. A block without a tile returns.
#pragma once
#include "../attention.h"
#include "device.h"

namespace minglm {
namespace MINGLM_DEVICE {

struct Place {
    int64_t sample, begin;  // the tile's first row within its sample; beyond the sample's end: no tile
};

MINGLM_HOST_DEVICE static inline int64_t places(int64_t rows, int64_t samples, int64_t tile) {
    return rows / tile + samples;
}

// Called by all lanes of a warp.
__device__ __forceinline__ Place place_of(int64_t place, const int32_t* cu_seqlens, int64_t samples,
                                          int tile) {
    // the last sample whose places begin at or before this one: among `count` of them, from `low` on
    int low = 0, count = static_cast<int>(samples);
    const int lane = threadIdx.x % 32;
    while (count > 1) {
        const int step = (count + 31) / 32, offset = lane * step;
        const bool begun = offset < count && cu_seqlens[low + offset] / tile + low + offset <= place;
        const int skipped = (__popc(__ballot_sync(0xffffffffu, begun)) - 1) * step;
        low += skipped;
        count = count - skipped < step ? count - skipped : step;
    }
    return {low, (place - cu_seqlens[low] / tile - low) * tile};
}

// How many keys a row sees, counted from the sample's first query.
__device__ __forceinline__ int keys_seen(const Sample& sample, int row) {
    return static_cast<int>(keys_of_row(sample.first_row + row, sample.part_a_len, sample.len_k));
}

// The number of the first tile of `tile` keys that some row of [i, ...) does not see completely, and of the
// first that no row sees.
__device__ __forceinline__ int full_tiles(int64_t first_row, const Sample& sample, int tile) {
    return static_cast<int>(keys_of_row(first_row, sample.part_a_len, sample.len_k) / tile);
}

__device__ __forceinline__ int visited_tiles(int64_t last_row, const Sample& sample, int tile) {
    return static_cast<int>((keys_of_row(last_row, sample.part_a_len, sample.len_k) + tile - 1) / tile);
}

// The number of tiles that a warp with `rows` rows from `row` on has to compute: all that its last row sees.
__device__ __forceinline__ int tiles_of_warp(int row, int rows, const Sample& sample, int tile) {
    const int end = static_cast<int>(sample.len_q);
    if (row >= end) return 0;
    return visited_tiles(sample.first_row + (row + rows < end ? row + rows : end) - 1, sample, tile);
}

// ROWS x D 16-bit numbers in shared memory. Columns come in slabs of 32, so a row of a slab is 64 bytes: four
// chunks of 16, and two rows fill the 32 banks once. A chunk is shifted by the number of its pair of rows, so
// that the eight rows of an 8x8 matrix, which load_matrices reads at once, lie in eight different quarters of
// the banks:
//
//     row 0, 1    0 1 2 3   0 1 2 3
//     row 2, 3    1 0 3 2   1 0 3 2      chunk c of a row lies in place c ^ (row / 2 % 4)
//     row 4, 5    2 3 0 1   2 3 0 1
//     row 6, 7    3 2 1 0   3 2 1 0
template <int ROWS, int D>
struct SharedTile {
    static constexpr int bytes = ROWS * D * 2;
    unsigned char* memory;

    __device__ __forceinline__ unsigned char* at(int row, int chunk) const {
        return memory + (chunk / 4 * ROWS + row) * 64 + ((chunk % 4) ^ (row / 2 % 4)) * 16;
    }
};

// Where the 16-bit rows of one sample and head are in global memory. Row numbers are clamped to the last row,
// so a tile that sticks out repeats it: finite numbers, which the mask or the sample's end keeps out of every
// result.
struct GlobalRows {
    const unsigned char* first;
    int bytes;  // from one row to the next
    int last;

    __device__ __forceinline__ GlobalRows(const Rows& x, int64_t first_row, int64_t rows, int64_t head)
        : first(static_cast<const unsigned char*>(x.data) + (first_row * x.row + head * x.head) * 2),
          bytes(static_cast<int>(x.row * 2)),
          last(static_cast<int>(rows) - 1) {}

    __device__ __forceinline__ const unsigned char* at(int row) const {
        return first + static_cast<int64_t>(row < last ? row : last) * bytes;
    }
};

// Starts copying rows [begin, begin + ROWS) into a tile: four neighbouring threads of the block take one row
// of a slab.
template <int THREADS, int ROWS, int D>
__device__ __forceinline__ void copy_tile(const SharedTile<ROWS, D>& to, const GlobalRows& from, int begin) {
    const int row = threadIdx.x / 4, chunk = threadIdx.x % 4;
    unsigned char* mine = to.at(row, chunk);  // has the same place every 8 rows
#pragma unroll
    for (int pass = 0; pass < ROWS; pass += THREADS / 4) {
        const unsigned char* source = from.at(begin + pass + row) + chunk * 16;
#pragma unroll
        for (int slab = 0; slab < D / 32; ++slab)
            copy16_async(mine + (slab * ROWS + pass) * 64, source + slab * 64);
    }
}

// The rows that a block owns, [begin, last], of one sample and head; a block without any returns at once.
struct OwnRows {
    int64_t head;
    Sample sample;
    int begin, last, len_q;

    __device__ __forceinline__ OwnRows(const AttentionProblem& p, int64_t place, int rows) {
        head = blockIdx.y;
        const Place at = place_of(place, p.cu_seqlens_q, p.samples, rows);
        sample = sample_of(p, at.sample);
        begin = static_cast<int>(at.begin), len_q = static_cast<int>(sample.len_q);
        last = begin + rows < len_q ? begin + rows - 1 : len_q - 1;
    }
    __device__ __forceinline__ bool none() const { return begin >= len_q; }
};

// The tiles of K and V that a block visits, in STAGES places of shared memory. With two places, the next K
// and V are being copied while this tile is computed. With one, V is being copied while Q K^T is computed,
// and the next K during P V: half the memory for one barrier more.
template <int THREADS, int KEYS, int D, int STAGES>
struct KeyTiles {
    using Tile = SharedTile<KEYS, D>;
    static constexpr int bytes = 2 * STAGES * Tile::bytes;
    unsigned char* memory;
    GlobalRows k, v;

    __device__ __forceinline__ KeyTiles(unsigned char* memory, const AttentionProblem& p,
                                        const Sample& sample, int64_t head)
        : memory(memory),
          k(p.k, sample.first_k, sample.len_k, head),
          v(p.v, sample.first_k, sample.len_k, head) {}

    __device__ __forceinline__ Tile k_tile(int j) const {
        return Tile{memory + j % STAGES * 2 * Tile::bytes};
    }
    __device__ __forceinline__ Tile v_tile(int j) const {
        return Tile{memory + (j % STAGES * 2 + 1) * Tile::bytes};
    }
    __device__ __forceinline__ void fetch_k(int j) const {
        copy_tile<THREADS>(k_tile(j), k, j * KEYS);
    }
    __device__ __forceinline__ void fetch_v(int j) const {
        copy_tile<THREADS>(v_tile(j), v, j * KEYS);
    }
};

}  // namespace MINGLM_DEVICE
}  // namespace minglm
