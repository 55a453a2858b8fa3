// The one interface of all kernels, on every device: plain pointers, strides and lengths.
//
//   forward    S = scale Q K^T (visible keys only)    lse = log sum exp S    P = exp(S - lse)    O = P V
//   backward   delta = rowsum(dO * O)    dP = dO V^T    dS = P * (dP - delta)
//              dQ = scale dS K    dK = scale dS^T Q    dV = P^T dO
//
// A row that sees no key gives O = 0, lse = -inf, P = 0, and passes no gradient.
#pragma once
#include <cstdint>

#include "mask.h"

namespace minglm {

enum class Dtype : int { float32 = 0, bfloat16 = 1, float64 = 2, float16 = 3 };

// A (rows, heads, head_dim) tensor: element (n, h, d) is data[n * row + h * head + d]; strides count
// elements.
struct Rows {
    void* data;
    int64_t row, head;
};

struct AttentionProblem {
    Dtype dtype;
    int64_t samples, heads, head_dim;
    int64_t queries;  // rows of q, out and lse in total: cu_seqlens_q[samples]
    int64_t keys;     // rows of k and v in total: cu_seqlens_k[samples]
    double scale;

    // Sample s owns query rows [cu_seqlens_q[s], cu_seqlens_q[s + 1]) and the keys from cu_seqlens_k[s] on:
    // all up to cu_seqlens_k[s + 1], or the first seqlens_k[s] of them if seqlens_k is not null. Queries are
    // aligned to the end of the keys: query row r is row i = len_k - len_q + r of the mask. The caller has
    // checked the lengths.
    const int32_t *cu_seqlens_q, *cu_seqlens_k, *part_a_lens, *seqlens_k;

    Rows q, k, v, out;
    void* lse;  // (heads, queries), float32; float64 if the inputs are

    // Forward of csrc/cuda only. If `parts` is not null, `splits` blocks share the keys of each row and leave
    // their results in parts_size(p, splits) numbers there (cuda/launch.h).
    int64_t splits;
    float* parts;

    // Backward only. The caller sets the gradients of keys outside every sample to 0.
    Rows grad_out, grad_q, grad_k, grad_v;
    // csrc/cuda only: at least the rows of the longest sample, if backward takes the kernel for short samples
    // (cuda/launch.h); 0: it does not.
    int64_t longest;
    float* delta;  // (heads, queries), workspace of backward; csrc/cuda only
};

// One sample of the problem, as a kernel sees it.
struct Sample {
    int64_t first_q, len_q, first_k, len_k, part_a_len;
    int64_t first_row;  // the mask row i of its first query row: len_k - len_q
};

MINGLM_HOST_DEVICE static inline Sample sample_of(const AttentionProblem& p, int64_t s) {
    Sample x;
    x.first_q = p.cu_seqlens_q[s];
    x.len_q = p.cu_seqlens_q[s + 1] - x.first_q;
    x.first_k = p.cu_seqlens_k[s];
    x.len_k = p.seqlens_k ? p.seqlens_k[s] : p.cu_seqlens_k[s + 1] - x.first_k;
    x.part_a_len = p.part_a_lens[s];
    x.first_row = x.len_k - x.len_q;
    return x;
}

}  // namespace minglm
