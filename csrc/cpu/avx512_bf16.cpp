// Rung 5, avx512_bf16: the vector kernel on pairs of bfloat16, whose two products are added to a float32 at
// once.
#include <immintrin.h>

#define MINGLM_RUNG avx512_bf16_rung
#define MINGLM_RUNG_NAME "avx512_bf16"
#define MINGLM_DOT_PAIRS 1
#include "rung.h"
#include "avx512.inc"
#include "vector.inc"
