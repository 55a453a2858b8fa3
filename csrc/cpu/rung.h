// The interface of a rung, one implementation on the ladder: the work of one (sample, head), or of a part of
// it. cpu.cpp does the rest.
//
// This header, and everything else that a rung with its own instruction set includes, must not bring in code
// of the standard library: an inline function compiled for AVX-512 here could become the copy that the linker
// keeps for the whole program.
#pragma once
#include <cstddef>

#include "../attention.h"
#include "../gelu.h"
#include "../mask.h"

namespace minglm {

struct bfloat16 {
    uint16_t bits;
};

struct Rung {
    const char* name;
    bool float32, bfloat16, float64;

    // Writes out and lse of query rows [begin, end) of a (sample, head).
    size_t (*forward_bytes)(const AttentionProblem&, const Sample&);  // of workspace
    void (*forward)(const AttentionProblem&, const Sample&, int64_t head, int64_t begin, int64_t end,
                    void* workspace);

    // Packs query rows [begin, end) of a (sample, head) for all parts of backward; begin is a multiple of 48.
    // Null where backward reads rows where they are.
    size_t (*packed_bytes)(const AttentionProblem&, const Sample&);  // of all rows
    void (*pack)(const AttentionProblem&, const Sample&, int64_t head, int64_t begin, int64_t end,
                 void* packed);

    // Part `part` of `parts` of a (sample, head): writes grad_k and grad_v of the keys that belong to the
    // part, and its share of grad_q, unscaled and in the rung's own precision, to dq. Then finish() adds the
    // shares of some rows, in order.
    size_t (*backward_bytes)(const AttentionProblem&, const Sample&);  // of workspace
    size_t (*dq_bytes)(const AttentionProblem&, const Sample&);        // of one share
    void (*backward)(const AttentionProblem&, const Sample&, int64_t head, int part, int parts,
                     const void* packed, void* dq, void* workspace);
    void (*finish)(const AttentionProblem&, const Sample&, int64_t head, int64_t begin, int64_t end,
                   const void* dq, int parts);

    void (*gelu)(const GeluProblem&, int64_t begin, int64_t end);  // numbers [begin, end)
};

// The loops of the scalar rung, which the tiled one takes, too.
void scalar_gelu(const GeluProblem&, int64_t begin, int64_t end);

extern const Rung scalar_rung, tiled_rung, avx2_rung, avx512_rung, avx512_bf16_rung, neon_rung;

}  // namespace minglm
