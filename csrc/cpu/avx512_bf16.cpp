// Rung 5, avx512_bf16: the vector kernel on pairs of bfloat16, multiplied and added two at a time into float32.
#include <immintrin.h>

#define MINGLM_RUNG avx512_bf16_rung
#define MINGLM_RUNG_NAME "avx512_bf16"
#define MINGLM_DOT_PAIRS 1
#include "rung.h"
#include "avx512.inc"
#include "vector.inc"
