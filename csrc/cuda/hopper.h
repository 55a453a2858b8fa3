// Forward on Hopper, the next rung after the tensor cores of launch.h: on a GPU (compiled by nvcc from
// hopper.cu for sm_90a) and on a CPU.
#pragma once
#include <string>

#include "../attention.h"

namespace minglm {
namespace cuda {

// Why the kernel does not serve such a problem, in one line; empty if it does. sm: as in launch.h.
std::string hopper_refusal(const AttentionProblem& problem, int sm);

// Whether it is the kernel to take for a problem that it serves: not for a few rows with many keys.
bool hopper_pays(const AttentionProblem& problem);

// As `forward` of launch.h, for a problem that is not refused.
std::string hopper_forward(const AttentionProblem& problem, void* stream);

}  // namespace cuda

namespace emulated {

std::string hopper_refusal(const AttentionProblem& problem, int sm);
std::string hopper_forward(const AttentionProblem& problem, void* stream);

}  // namespace emulated
}  // namespace minglm
