// Rung 3, avx2: the vector kernel on 8 floats at a time (every x86-64 laptop since 2013). bfloat16 inputs are widened when
// they are packed.
#include <immintrin.h>

#include "rung.h"

#define MINGLM_RUNG avx2_rung
#define MINGLM_RUNG_NAME "avx2"
#define MINGLM_DOT_PAIRS 0

namespace minglm {
namespace {

constexpr int W = 8, NV = 2;  // floats in a vector; vectors in a panel: 6 x 2 + 2 + 1 of the 16 registers
using V = __m256;

inline V zero() { return _mm256_setzero_ps(); }
inline V all(float x) { return _mm256_set1_ps(x); }
inline V load(const float* x) { return _mm256_loadu_ps(x); }
inline void store(float* x, V v) { _mm256_storeu_ps(x, v); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V larger(V a, V b) { return _mm256_max_ps(a, b); }  // b where either is NaN

inline float sum_of(V v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float largest_of(V v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline __m256i lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V first(V v, int64_t n, V other) { return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(lanes(n))); }

inline V load_first(const float* x, int64_t n) { return n >= W ? load(x) : _mm256_maskload_ps(x, lanes(n)); }
inline V load_first(const bfloat16* x, int64_t n) {
    __m128i bits = _mm_setzero_si128();
    if (n >= W) {
        bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    } else if (n > 0) {
        __builtin_memcpy(&bits, x, 2 * n);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline void store_first(float* x, V v, int64_t n) {
    if (n >= W) {
        store(x, v);
    } else {
        _mm256_maskstore_ps(x, lanes(n), v);
    }
}
inline void store_first(bfloat16* x, V v, int64_t n) {  // to nearest, ties to even
    const __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const V is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q), nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    const __m256i safe = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), nan, is_nan));
    const __m256i high = _mm256_srli_epi32(safe, 16);
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    if (n >= W) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x), narrow);
    } else if (n > 0) {
        __builtin_memcpy(x, &narrow, 2 * n);
    }
}

// e^x for x <= 88: 2^whole times a polynomial of 2^f, |f| <= 1/2 (relative error 2e-9 before rounding); 0 below e^-87.
inline V exp_of(V x) {
    const V smallest = all(-87), kept = _mm256_cmp_ps(x, smallest, _CMP_NLT_UQ);  // NaN stays
    x = larger(smallest, x);
    const V log2_of_e = all(1.44269504088896341f);
    const V whole = _mm256_round_ps(mul(x, log2_of_e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V f = _mm256_fmsub_ps(x, log2_of_e, whole);  // subtle: not rounded before the whole part is gone
    V y = all(0.00015345810970757157f);
    y = fma(y, f, all(0.0013399932067841291f));
    y = fma(y, f, all(0.009618489071726799f));
    y = fma(y, f, all(0.05550328642129898f));
    y = fma(y, f, all(0.24022646248340607f));
    y = fma(y, f, all(0.6931471824645996f));
    y = fma(y, f, all(1));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(mul(y, _mm256_castsi256_ps(power)), kept);
}

inline void transpose(V (&x)[W]) {
    V t[W];
    for (int i = 0; i < W; i += 2) {
        t[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < W; i += 4)
        for (int j = 0; j < 2; ++j) {
            x[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            x[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(x[i], x[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(x[i], x[4 + i], 0x31);
    }
    for (int i = 0; i < W; ++i) x[i] = t[i];
}

}  // namespace
}  // namespace minglm

#include "vector.inc"
