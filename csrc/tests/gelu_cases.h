// GELU by every rung against std::tanh in double precision; part of check_cases.cpp.
#pragma once
#include <cmath>
#include <cstdio>
#include <vector>

#include "../cpu/cpu.h"

namespace minglm {

// Whether a rung is within four units of rounding (eps) of the larger of 1 and its input, in memory of
// exactly the size needed, with the same bits for 1 and 3 threads. put(T&, double) and get(T) convert.
template <class T, class Put, class Get>
bool gelu_is_right(const char* rung, Dtype dtype, double eps, Put put, Get get) {
    for (const int n : {0, 1, 7, 17, 16384 + 5})
        for (const bool backward : {false, true}) {
            std::vector<T> x(n), grad(n), y(n), again(n);
            for (int i = 0; i < n; ++i) {
                put(x[i], (i * 37 % 1031 - 515) / 32.0);  // -16 to 16, exact in bfloat16 up to 4
                put(grad[i], (i % 17 - 8) / 8.0);
            }
            const void* const incoming = backward ? grad.data() : nullptr;
            cpu_gelu({dtype, n, x.data(), incoming, y.data()}, rung, 1);
            cpu_gelu({dtype, n, x.data(), incoming, again.data()}, rung, 3);
            for (int i = 0; i < n; ++i) {
                const double v = get(x[i]), k = std::sqrt(2 / std::acos(-1.0)),
                             t = std::tanh(k * (v + 0.044715 * v * v * v));
                const double slope = (1 + t) / 2 + v / 2 * (1 - t * t) * k * (1 + 3 * 0.044715 * v * v);
                const double want = backward ? get(grad[i]) * slope : v * (1 + t) / 2, got = get(y[i]);
                const double budget = 4 * eps * std::fmax(1, std::fabs(v));
                if (std::fabs(got - want) <= budget && got == get(again[i])) continue;  // NaN fails
                std::printf("%s: MISS gelu%s of %.9g is %.9g, then %.9g, not %.9g\n", rung,
                            backward ? "'s gradient" : "", v, got, get(again[i]), want);
                return false;
            }
        }
    return true;
}

}  // namespace minglm
