// The mask of GLM, stated once for C++ and CUDA.
//
// Row i of a sample with T keys and a Part A of length A sees keys 0 .. keys_of_row - 1. That one integer
// gives every tile its kind: a tile of rows [i0, i1) sees all keys before keys_of_row(i0) (full), no key from
// keys_of_row(i1 - 1) on (empty), and only in between do single keys have to be tested (partial).
//
//   keys ->  0 ........ A ............ T        A = 0: GPT    A = T: BERT    between: GLM, prefix LM
//   row 0    ##########                         rows before A see all of Part A
//   row A-1  ##########
//   row A    ###########                        row A and later: Part A and their own past
//   row T-1  ########################
#pragma once
#include <cstdint>

#ifdef __CUDACC__  // code that also runs on a GPU
#define MINGLM_HOST_DEVICE __host__ __device__
#else
#define MINGLM_HOST_DEVICE
#endif

namespace minglm {

// How many keys row i sees; rows before the first key (i < 0) see Part A only. `static`, so that every file
// keeps a copy compiled for its own instruction set.
MINGLM_HOST_DEVICE static inline int64_t keys_of_row(int64_t i, int64_t part_a_len, int64_t len_k) {
    const int64_t keys = part_a_len > i + 1 ? part_a_len : i + 1;
    return keys < len_k ? keys : len_k;
}

// The first row that sees key j: every row sees Part A, and row j is the first to see key j of Part B.
MINGLM_HOST_DEVICE static inline int64_t first_row_of_key(int64_t j, int64_t part_a_len, int64_t first_row) {
    return j < part_a_len || j < first_row ? first_row : j;
}

}  // namespace minglm
