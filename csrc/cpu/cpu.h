// Masked attention on a CPU: the ladder of rungs, and the two calls that run one of them on all threads.
#pragma once
#include <vector>

#include "../attention.h"
#include "../gelu.h"

namespace minglm {

struct RungInfo {
    const char* name;
    bool supported;  // whether this machine has the instructions
    bool float32, bfloat16, float64;
};

// The rungs of this build, in ladder order.
std::vector<RungInfo> cpu_rungs();

// The fastest rung that this machine can run and that serves the dtype.
const char* cpu_best_rung(Dtype dtype);

// Write the outputs of every row and every key of the samples; the unused slots of a cache are not touched.
// Results repeat bit for bit with the same number of threads. Throw std::invalid_argument for a rung that is
// unknown, lacks the dtype, or cannot run on this machine.
void cpu_forward(const AttentionProblem& problem, const char* rung, int threads);
void cpu_backward(const AttentionProblem& problem, const char* rung, int threads);

// The same for GELU, or its gradient; its results do not depend on the number of threads.
void cpu_gelu(const GeluProblem& problem, const char* rung, int threads);

// Where the parts begin and end into which forward cuts the rows of a long sample: parts with equal numbers
// of pairs of a row and a key that it sees, in multiples of 48 rows.
std::vector<int64_t> cpu_forward_parts(const Sample& sample, int64_t threads);

// "OpenMP" or "std::thread".
const char* cpu_threads_by();

}  // namespace minglm
