// Rung 1, scalar: the formulas of attention.h as loops, in double precision. Slow, and the reference for all
// other rungs.
//
// One (sample, head) at a time: for each row, its scores against the keys it sees, their softmax, the
// weighted sum of values. Backward goes through the rows once more and recomputes P from the log-sum-exp.
// Supports float64 (for gradcheck), float32 and bfloat16; only loads and stores depend on the dtype.
#include <cmath>
#include <cstring>
#include <limits>

#include "rung.h"

namespace minglm {
namespace {

double load(const double* x) { return *x; }
double load(const float* x) { return *x; }
double load(const bfloat16* x) {
    const uint32_t bits = uint32_t(x->bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

void store(double* x, double value) { *x = value; }
void store(float* x, double value) { *x = static_cast<float>(value); }
void store(bfloat16* x, double value) {
    const float single = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &single, 4);
    if (std::isnan(single)) {
        x->bits = 0x7fc0;
    } else {
        // rounds to nearest, ties to even
        x->bits = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}

// Row n of one head of a tensor.
template <class T>
T* row(const Rows& x, int64_t n, int64_t head) {
    return static_cast<T*>(x.data) + n * x.row + head * x.head;
}

// lse is float32 unless the inputs are float64.
double load_lse(const AttentionProblem& p, int64_t at) {
    return p.dtype == Dtype::float64 ? static_cast<const double*>(p.lse)[at]
                                     : static_cast<const float*>(p.lse)[at];
}

void store_lse(const AttentionProblem& p, int64_t at, double value) {
    if (p.dtype == Dtype::float64) {
        static_cast<double*>(p.lse)[at] = value;
    } else {
        static_cast<float*>(p.lse)[at] = static_cast<float>(value);
    }
}

template <class T>
double dot(const T* a, const T* b, int64_t n) {
    double sum = 0;
    for (int64_t d = 0; d < n; ++d) sum += load(a + d) * load(b + d);
    return sum;
}

template <class T>
void forward(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
             double* scores) {
    const int64_t D = p.head_dim;
    double* sum = scores + x.len_k;  // (D,)
    for (int64_t r = begin; r < end; ++r) {
        const int64_t keys = keys_of_row(x.first_row + r, x.part_a_len, x.len_k), n = x.first_q + r;
        const T* q = row<T>(p.q, n, head);
        double largest = -std::numeric_limits<double>::infinity(), total = 0;
        for (int64_t j = 0; j < keys; ++j) {
            scores[j] = p.scale * dot(q, row<T>(p.k, x.first_k + j, head), D);
            if (scores[j] > largest) largest = scores[j];
        }
        for (int64_t d = 0; d < D; ++d) sum[d] = 0;
        for (int64_t j = 0; j < keys; ++j) {
            const double weight = std::exp(scores[j] - largest);
            const T* v = row<T>(p.v, x.first_k + j, head);
            total += weight;
            for (int64_t d = 0; d < D; ++d) sum[d] += weight * load(v + d);
        }
        T* out = row<T>(p.out, n, head);
        for (int64_t d = 0; d < D; ++d) store(out + d, keys ? sum[d] / total : 0);
        store_lse(p, head * p.queries + n,
                  keys ? largest + std::log(total) : -std::numeric_limits<double>::infinity());
    }
}

// The part-th range of a sample's keys.
struct Keys {
    int64_t begin, end;

    Keys(const Sample& x, int part, int parts)
        : begin(x.len_k * part / parts), end(x.len_k * (part + 1) / parts) {}
};

template <class T>
void backward(const AttentionProblem& p, const Sample& x, int64_t head, int part, int parts, double* dq,
              double* dk) {
    const int64_t D = p.head_dim;
    const Keys own(x, part, parts);
    double* dv = dk + (own.end - own.begin) * D;
    for (int64_t i = 0; i < 2 * (own.end - own.begin) * D; ++i) dk[i] = 0;
    for (int64_t i = 0; i < x.len_q * D; ++i) dq[i] = 0;
    for (int64_t r = 0; r < x.len_q; ++r) {
        const int64_t keys = keys_of_row(x.first_row + r, x.part_a_len, x.len_k), n = x.first_q + r;
        const T *q = row<T>(p.q, n, head), *grad_out = row<T>(p.grad_out, n, head);
        const double lse = load_lse(p, head * p.queries + n),
                     delta = dot(grad_out, row<T>(p.out, n, head), D);
        for (int64_t j = own.begin; j < own.end && j < keys; ++j) {
            const T *k = row<T>(p.k, x.first_k + j, head), *v = row<T>(p.v, x.first_k + j, head);
            const double P = std::exp(p.scale * dot(q, k, D) - lse), dS = P * (dot(grad_out, v, D) - delta);
            double *dk_j = dk + (j - own.begin) * D, *dv_j = dv + (j - own.begin) * D;
            for (int64_t d = 0; d < D; ++d) {
                dq[r * D + d] += dS * load(k + d);
                dk_j[d] += dS * load(q + d);
                dv_j[d] += P * load(grad_out + d);
            }
        }
    }
    for (int64_t j = own.begin; j < own.end; ++j) {
        T *grad_k = row<T>(p.grad_k, x.first_k + j, head), *grad_v = row<T>(p.grad_v, x.first_k + j, head);
        for (int64_t d = 0; d < D; ++d) {
            store(grad_k + d, p.scale * dk[(j - own.begin) * D + d]);
            store(grad_v + d, dv[(j - own.begin) * D + d]);
        }
    }
}

template <class T>
void finish(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
            const double* dq, int parts) {
    const int64_t D = p.head_dim;
    for (int64_t r = begin; r < end; ++r) {
        for (int64_t d = 0; d < D; ++d) {
            double sum = 0;
            for (int part = 0; part < parts; ++part) sum += dq[(part * x.len_q + r) * D + d];
            store(row<T>(p.grad_q, x.first_q + r, head) + d, p.scale * sum);
        }
    }
}

// work<T>(...) for the T of the problem.
#define MINGLM_FOR_DTYPE(work, ...)                                    \
    switch (p.dtype) {                                                 \
        case Dtype::float32: return work<float>(__VA_ARGS__);          \
        case Dtype::bfloat16: return work<bfloat16>(__VA_ARGS__);      \
        case Dtype::float64: return work<double>(__VA_ARGS__);         \
    }

size_t forward_bytes(const AttentionProblem& p, const Sample& x) {
    return sizeof(double) * (x.len_k + p.head_dim);
}
size_t backward_bytes(const AttentionProblem& p, const Sample& x) {
    return sizeof(double) * 2 * x.len_k * p.head_dim;
}
size_t dq_bytes(const AttentionProblem& p, const Sample& x) { return sizeof(double) * x.len_q * p.head_dim; }

void forward_any(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
                 void* workspace) {
    MINGLM_FOR_DTYPE(forward, p, x, head, begin, end, static_cast<double*>(workspace))
}

void backward_any(const AttentionProblem& p, const Sample& x, int64_t head, int part, int parts,
                  const void*, void* dq, void* workspace) {
    MINGLM_FOR_DTYPE(backward, p, x, head, part, parts, static_cast<double*>(dq),
                     static_cast<double*>(workspace))
}

void finish_any(const AttentionProblem& p, const Sample& x, int64_t head, int64_t begin, int64_t end,
                const void* dq, int parts) {
    MINGLM_FOR_DTYPE(finish, p, x, head, begin, end, static_cast<const double*>(dq), parts)
}

template <class T>
void gelu(const GeluProblem& g, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const double x = load(static_cast<const T*>(g.x) + i), w = x * (GELU_1 + GELU_3 * x * x);
        const double s = 1 / (1 + std::exp(-w)), slope = GELU_1 + 3 * GELU_3 * x * x;
        double y = x * s;
        if (g.grad_out) y = load(static_cast<const T*>(g.grad_out) + i) * (s + y * (1 - s) * slope);
        store(static_cast<T*>(g.out) + i, y);
    }
}

}  // namespace

void scalar_gelu(const GeluProblem& p, int64_t begin, int64_t end) {
    MINGLM_FOR_DTYPE(gelu, p, begin, end)
}

const Rung scalar_rung = {"scalar", true,    true,           true,     forward_bytes, forward_any,
                          nullptr,  nullptr, backward_bytes, dq_bytes, backward_any,  finish_any,
                          scalar_gelu};

}  // namespace minglm
