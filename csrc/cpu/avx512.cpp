// Rung 4, avx512: the vector kernel on 16 floats at a time. bfloat16 inputs are widened when they are packed.
#include <immintrin.h>

#define MINGLM_RUNG avx512_rung
#define MINGLM_RUNG_NAME "avx512"
#define MINGLM_DOT_PAIRS 0
#include "rung.h"
#include "avx512.inc"
#include "vector.inc"
