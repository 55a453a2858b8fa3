// Masked attention on a CPU: the ladder of rungs, and the two calls that run one of them on all threads.
#pragma once
#include <vector>

#include "../attention.h"

namespace minglm {

struct RungInfo {
    const char* name;
    bool supported;  // this machine has the instructions
    bool float32, bfloat16, float64;
};

// The rungs of this build, in ladder order.
std::vector<RungInfo> cpu_rungs();

// The fastest rung that this machine can run and that serves the dtype.
const char* cpu_best_rung(Dtype dtype);

// Writes the outputs of every row and every key of the samples; what lies in a cache's room stays as it is. Results repeat bit for bit at the same number of threads.
// Throws std::invalid_argument for a rung that is unknown, lacks the dtype, or that this machine cannot run.
void cpu_forward(const AttentionProblem& problem, const char* rung, int threads);
void cpu_backward(const AttentionProblem& problem, const char* rung, int threads);

// "OpenMP" or "std::thread".
const char* cpu_threads_by();

}  // namespace minglm
