// Rung 4, avx512: the vector kernel on 16 floats at a time. bfloat16 inputs are widened when they are packed.
#if defined(__GNUC__) && !defined(__clang__)
// else GCC keeps constants of `exp_of` in registers across the products, which then lack six of their sums
#pragma GCC optimize("no-gcse")
#endif
#include <immintrin.h>

#define MINGLM_RUNG avx512_rung
#define MINGLM_RUNG_NAME "avx512"
#define MINGLM_DOT_PAIRS 0
#include "rung.h"
#include "avx512.inc"
#include "vector.inc"
