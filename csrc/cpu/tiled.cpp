// Rung 2, tiled: the same sums in tiles of 32 rows by 64 keys, with the online softmax, so that the scores of
// a whole row never exist at once and every loaded value is used 32 or 64 times (Milakov & Gimelshein 2018;
// Dao et al. 2022, algorithms 1 and 4).
//
//            keys ->                        full      every row of the tile sees every key: no test inside
//   rows   [ full ][ full ][part ][     ]   partial   each row has its own last key: later scores are -inf
//    |     [ full ][ full ][ full][part ]   empty     no row sees any key: never visited
//
// Forward owns a tile of rows and walks along the keys with O, the largest score m and the sum l so far; when
// a tile brings a larger m, O and l are scaled down first. Backward owns a tile of keys and walks along the
// rows that see it: dK and dV stay, dQ is added to a buffer. Plain C++: the compiler vectorises the innermost
// loops with what every machine of this architecture has.
#include <cmath>
#include <cstring>
#include <limits>

#include "rung.h"

namespace minglm {
namespace {

constexpr int64_t Br = 32, Bc = 64;  // rows and keys of a tile

float widen(uint16_t bits) {
    const uint32_t word = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

uint16_t narrow(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return value != value ? 0x7fc0 : static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

// Copies n rows of one head from row `first` on, as float32: to[i * row + d * element].
void load(const AttentionProblem& p, const Rows& x, int64_t head, int64_t first, int64_t n, float* to,
          int64_t row, int64_t element) {
    for (int64_t i = 0; i < n; ++i) {
        const int64_t at = (first + i) * x.row + head * x.head;
        for (int64_t d = 0; d < p.head_dim; ++d)
            to[i * row + d * element] = p.dtype == Dtype::float32
                                            ? static_cast<const float*>(x.data)[at + d]
                                            : widen(static_cast<const uint16_t*>(x.data)[at + d]);
    }
}

void store(const AttentionProblem& p, const Rows& x, int64_t head, int64_t n, const float* from,
           float factor) {
    const int64_t at = n * x.row + head * x.head;
    for (int64_t d = 0; d < p.head_dim; ++d) {
        if (p.dtype == Dtype::float32) {
            static_cast<float*>(x.data)[at + d] = factor * from[d];
        } else {
            static_cast<uint16_t*>(x.data)[at + d] = narrow(factor * from[d]);
        }
    }
}

// C += A B, where A[r][k] is a[r * a_row + k * a_inner], and the rows of B (inner, columns) and C are b_row
// and c_row apart.
// subtle: sums of 16 terms are added up, not terms; one long sum would round as often as it has terms.
void add_product(int64_t rows, int64_t inner, int64_t columns, const float* a, int64_t a_row, int64_t a_inner,
                 const float* b, int64_t b_row, float* c, int64_t c_row) {
    float sum[256];
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t k0 = 0; k0 < inner; k0 += 16) {
            for (int64_t j = 0; j < columns; ++j) sum[j] = 0;
            for (int64_t k = k0; k < inner && k < k0 + 16; ++k) {
                const float factor = a[r * a_row + k * a_inner];
                for (int64_t j = 0; j < columns; ++j) sum[j] += factor * b[k * b_row + j];
            }
            for (int64_t j = 0; j < columns; ++j) c[r * c_row + j] += sum[j];
        }
}

void clear(float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = 0;
}

// Scores of a tile: scale Q K^T where the row sees the key, -inf elsewhere. q: (rows, D), kt: (D, Bc).
void scores_of(const AttentionProblem& p, const Sample& x, int64_t r0, int64_t rows, int64_t j0,
               int64_t columns, const float* q, const float* kt, float* S) {
    clear(S, rows * Bc);
    add_product(rows, p.head_dim, columns, q, p.head_dim, 1, kt, Bc, S, Bc);
    const float scale = static_cast<float>(p.scale);
    for (int64_t i = 0; i < rows * Bc; ++i) S[i] *= scale;
    if (keys_of_row(x.first_row + r0, x.part_a_len, x.len_k) >= j0 + columns) return;  // a full tile
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t seen = keys_of_row(x.first_row + r0 + r, x.part_a_len, x.len_k) - j0;
        for (int64_t j = seen > 0 ? seen : 0; j < columns; ++j)
            S[r * Bc + j] = -std::numeric_limits<float>::infinity();
    }
}

size_t forward_bytes(const AttentionProblem& p, const Sample&) {
    return sizeof(float) * ((2 * Br + 2 * Bc) * p.head_dim + Br * Bc);
}

void forward(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
             void* workspace) {
    const int64_t D = p.head_dim;
    float *q = static_cast<float*>(workspace), *O = q + Br * D, *kt = O + Br * D, *v = kt + D * Bc,
          *S = v + Bc * D;
    for (int64_t r0 = begin; r0 < end; r0 += Br) {
        const int64_t rows = end - r0 < Br ? end - r0 : Br;
        float m[Br], l[Br];
        load(p, p.q, head, x.first_q + r0, rows, q, D, 1);
        clear(O, rows * D);
        clear(l, rows);
        for (int64_t r = 0; r < rows; ++r) m[r] = -std::numeric_limits<float>::infinity();
        const int64_t last = keys_of_row(x.first_row + r0 + rows - 1, x.part_a_len, x.len_k);
        for (int64_t j0 = 0; j0 < last; j0 += Bc) {
            const int64_t columns = last - j0 < Bc ? last - j0 : Bc;
            load(p, p.k, head, x.first_k + j0, columns, kt, 1, Bc);
            load(p, p.v, head, x.first_k + j0, columns, v, D, 1);
            scores_of(p, x, r0, rows, j0, columns, q, kt, S);
            for (int64_t r = 0; r < rows; ++r) {
                float largest = m[r], total = 0;
                for (int64_t j = 0; j < columns; ++j)
                    largest = S[r * Bc + j] > largest ? S[r * Bc + j] : largest;
                // subtle: a row without a key so far has largest = -inf, and exp(-inf - -inf) would be NaN
                const float safe = std::isinf(largest) ? 0 : largest, shrink = std::exp(m[r] - safe);
                for (int64_t j = 0; j < columns; ++j) {
                    S[r * Bc + j] = std::exp(S[r * Bc + j] - safe);
                    total += S[r * Bc + j];
                }
                for (int64_t d = 0; d < D; ++d) O[r * D + d] *= shrink;
                l[r] = l[r] * shrink + total;
                m[r] = largest;
            }
            add_product(rows, columns, D, S, Bc, 1, v, D, O, D);
        }
        for (int64_t r = 0; r < rows; ++r) {
            store(p, p.out, head, x.first_q + r0 + r, O + r * D, l[r] > 0 ? 1 / l[r] : 0);
            static_cast<float*>(p.lse)[head * p.queries + x.first_q + r0 + r] =
                static_cast<float>(m[r] + std::log(static_cast<double>(l[r])));
        }
    }
}

size_t backward_bytes(const AttentionProblem& p, const Sample&) {
    return sizeof(float) * ((3 * Br + 5 * Bc) * p.head_dim + 2 * Br * Bc);
}

size_t dq_bytes(const AttentionProblem& p, const Sample& x) { return sizeof(float) * x.len_q * p.head_dim; }

void backward(const AttentionProblem& p, const Sample& x, int64_t head, int part, int parts, const void*,
              void* dq_share, void* workspace) {
    const int64_t D = p.head_dim;
    float* dq = static_cast<float*>(dq_share);
    float *q = static_cast<float*>(workspace), *dO = q + Br * D, *O = dO + Br * D, *k = O + Br * D,
          *kt = k + Bc * D;
    float *vt = kt + D * Bc, *dk = vt + D * Bc, *dv = dk + Bc * D, *P = dv + Bc * D, *dS = P + Br * Bc;
    clear(dq, x.len_q * D);
    for (int64_t j0 = Bc * part; j0 < x.len_k; j0 += Bc * parts) {
        const int64_t columns = x.len_k - j0 < Bc ? x.len_k - j0 : Bc;
        load(p, p.k, head, x.first_k + j0, columns, k, D, 1);
        load(p, p.k, head, x.first_k + j0, columns, kt, 1, Bc);
        load(p, p.v, head, x.first_k + j0, columns, vt, 1, Bc);
        clear(dk, Bc * D);
        clear(dv, Bc * D);
        for (int64_t r0 = first_row_of_key(j0, x.part_a_len, x.first_row) - x.first_row; r0 < x.len_q;
             r0 += Br) {
            const int64_t rows = x.len_q - r0 < Br ? x.len_q - r0 : Br;
            load(p, p.q, head, x.first_q + r0, rows, q, D, 1);
            load(p, p.grad_out, head, x.first_q + r0, rows, dO, D, 1);
            load(p, p.out, head, x.first_q + r0, rows, O, D, 1);
            scores_of(p, x, r0, rows, j0, columns, q, kt, P);
            clear(dS, rows * Bc);
            add_product(rows, D, columns, dO, D, 1, vt, Bc, dS, Bc);  // dP
            for (int64_t r = 0; r < rows; ++r) {
                const float lse = static_cast<const float*>(p.lse)[head * p.queries + x.first_q + r0 + r];
                float delta = 0;  // summed like dP, so that with a single key dP - delta is exactly 0
                add_product(1, D, 1, dO + r * D, D, 1, O + r * D, 1, &delta, 1);
                for (int64_t j = 0; j < columns; ++j) {
                    P[r * Bc + j] = std::isinf(lse) ? 0 : std::exp(P[r * Bc + j] - lse);
                    dS[r * Bc + j] = P[r * Bc + j] * (dS[r * Bc + j] - delta);
                }
            }
            add_product(rows, columns, D, dS, Bc, 1, k, D, dq + r0 * D, D);
            add_product(columns, rows, D, dS, 1, Bc, q, D, dk, D);
            add_product(columns, rows, D, P, 1, Bc, dO, D, dv, D);
        }
        for (int64_t j = 0; j < columns; ++j) {
            store(p, p.grad_k, head, x.first_k + j0 + j, dk + j * D, static_cast<float>(p.scale));
            store(p, p.grad_v, head, x.first_k + j0 + j, dv + j * D, 1);
        }
    }
}

void finish(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
            const void* dq, int parts) {
    const int64_t D = p.head_dim;
    float sum[256];
    for (int64_t r = begin; r < end; ++r) {
        clear(sum, D);
        for (int part = 0; part < parts; ++part)
            for (int64_t d = 0; d < D; ++d)
                sum[d] += static_cast<const float*>(dq)[(part * x.len_q + r) * D + d];
        store(p, p.grad_q, head, x.first_q + r, sum, static_cast<float>(p.scale));
    }
}

}  // namespace

const Rung tiled_rung = {"tiled", true,    true,           false,    forward_bytes, forward,
                         nullptr, nullptr, backward_bytes, dq_bytes, backward,      finish,
                         scalar_gelu};

}  // namespace minglm
