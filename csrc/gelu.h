// GELU in the form of the original code, and its gradient, on numbers that lie side by side.
//
//   w = 2 sqrt(2 / pi) (x + 0.044715 x^3)    s = 1 / (1 + exp(-w))
//   forward    y = x s                       = x (1 + tanh(w / 2)) / 2
//   backward   dx = dy (s + x s (1 - s) w')  w' = 2 sqrt(2 / pi) (1 + 3 0.044715 x^2)
#pragma once
#include <cstdint>

#include "attention.h"

namespace minglm {

struct GeluProblem {
    Dtype dtype;
    int64_t n;
    const void *x, *grad_out;  // grad_out: null in a forward pass
    void* out;                 // y, or dx
};

constexpr double GELU_1 = 1.5957691216057308, GELU_3 = GELU_1 * 0.044715;  // w = GELU_1 x + GELU_3 x^3

}  // namespace minglm
