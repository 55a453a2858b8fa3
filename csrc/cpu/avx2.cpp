// Rung 3, avx2: the vector kernel on 8 floats at a time (every x86-64 laptop since 2013). bfloat16 inputs are
// widened when they are packed.
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
inline V splat(float x) { return _mm256_set1_ps(x); }
inline V load(const float* x) { return _mm256_loadu_ps(x); }
inline void store(float* x, V v) { _mm256_storeu_ps(x, v); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V div(V a, V b) { return _mm256_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }  // b if either is NaN

inline float reduce_add(V v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_max(V v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline __m256i lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V keep_first(V v, int64_t n, V other) {
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(lanes(n)));
}

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
inline void store_first(bfloat16* x, V v, int64_t n) {  // rounds to nearest, ties to even
    const __m256i bits = _mm256_castps_si256(v),
                  odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const V is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q),
            nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    const __m256i safe = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), nan, is_nan));
    const __m256i high = _mm256_srli_epi32(safe, 16);
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    if (n >= W) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x), narrow);
    } else if (n > 0) {
        __builtin_memcpy(x, &narrow, 2 * n);
    }
}

inline V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
inline V nearest(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 0 where n <= -126: the results, near the smallest normal number or below, are not worth denormal factors in
// the products, which some processors multiply a hundred times slower. As 2 v 2^(n - 1), whose exponent fits.
inline V mul_pow2(V v, V power) {
    const __m256i n = _mm256_max_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(-126));
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(126)), 23);
    return mul(add(v, v), _mm256_castsi256_ps(bits));
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
