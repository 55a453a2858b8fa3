// Rung 3 on Arm, neon: the vector kernel on 4 floats at a time. bfloat16 inputs are widened when they are
// packed.
#include <arm_neon.h>

#define MINGLM_RUNG neon_rung
#define MINGLM_RUNG_NAME "neon"
#define MINGLM_DOT_PAIRS 0
#include "rung.h"

// The vector type of NEON: 32 registers of 4 floats. vector.inc explains each function.
namespace minglm {
namespace {

constexpr int W = 4, NV = 4;  // floats in a vector; vectors in a panel
using V = float32x4_t;

inline V zero() { return vdupq_n_f32(0); }
inline V splat(float x) { return vdupq_n_f32(x); }
inline V load(const float* x) { return vld1q_f32(x); }
inline void store(float* x, V v) { vst1q_f32(x, v); }
inline V add(V a, V b) { return vaddq_f32(a, b); }
inline V sub(V a, V b) { return vsubq_f32(a, b); }
inline V mul(V a, V b) { return vmulq_f32(a, b); }
inline V div(V a, V b) { return vdivq_f32(a, b); }
inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
inline V max(V a, V b) { return vmaxq_f32(a, b); }  // NaN if either is NaN
inline float reduce_add(V v) { return vaddvq_f32(v); }
inline float reduce_max(V v) { return vmaxvq_f32(v); }

inline V keep_first(V v, int64_t n, V other) {
    const int32_t lane[W] = {0, 1, 2, 3}, lanes = n >= W ? W : n <= 0 ? 0 : static_cast<int32_t>(n);
    return vbslq_f32(vcltq_s32(vld1q_s32(lane), vdupq_n_s32(lanes)), v, other);
}

// NEON has no masked loads and stores: less than a whole vector goes through a small array.
inline V load_first(const float* x, int64_t n) {
    if (n >= W) return load(x);
    float whole[W] = {};
    for (int64_t i = 0; i < n; ++i) whole[i] = x[i];
    return load(whole);
}
inline V load_first(const bfloat16* x, int64_t n) {
    uint16_t whole[W] = {};
    for (int64_t i = 0; i < n && i < W; ++i) whole[i] = x[i].bits;
    const uint16x4_t bits = n >= W ? vld1_u16(&x->bits) : vld1_u16(whole);
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}
inline uint16x4_t narrow(V v) {  // rounds to nearest, ties to even
    const uint32x4_t bits = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, vdupq_n_u32(0x7fc00000)), 16);
}
inline void store_first(float* x, V v, int64_t n) {
    if (n >= W) return store(x, v);
    float whole[W];
    store(whole, v);
    for (int64_t i = 0; i < n; ++i) x[i] = whole[i];
}
inline void store_first(bfloat16* x, V v, int64_t n) {
    if (n >= W) return vst1_u16(&x->bits, narrow(v));
    uint16_t whole[W];
    vst1_u16(whole, narrow(v));
    for (int64_t i = 0; i < n; ++i) x[i].bits = whole[i];
}

inline V fms(V a, V b, V c) { return vnegq_f32(vfmsq_f32(c, a, b)); }
inline V nearest(V v) { return vrndnq_f32(v); }
inline V mul_pow2(V v, V power) {  // in two factors: one alone cannot go below 2^-126
    const int32x4_t n = vcvtq_s32_f32(power), half = vshrq_n_s32(n, 1), rest = vsubq_s32(n, half),
                    bias = vdupq_n_s32(127);
    v = mul(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    return mul(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
}

inline void transpose(V (&x)[W]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(x[0], x[1])),
                      b = vreinterpretq_f64_f32(vtrn2q_f32(x[0], x[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(x[2], x[3])),
                      d = vreinterpretq_f64_f32(vtrn2q_f32(x[2], x[3]));
    x[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    x[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    x[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    x[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

}  // namespace
}  // namespace minglm

#include "vector.inc"
