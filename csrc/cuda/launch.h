// Masked attention by the CUDA kernels, for whoever calls it: on a GPU (namespace cuda, where nvcc compiled launch.cu) and
// carried out on a CPU (namespace emulated, where the C++ compiler did, through csrc/cuda_on_cpu).
#pragma once
#include <cstdint>
#include <string>

#include "../attention.h"

namespace minglm {
namespace cuda {

// Why such a problem cannot be served, in one line; empty if it can. sm: the device's compute capability, 80 for 8.0.
std::string refusal(const AttentionProblem& problem, int sm);

// Start the kernels on a stream (a cudaStream_t) of the current device and return at once. All addresses, those of the
// lengths too, are the device's; problem.delta is room that backward writes to. Return what went wrong, empty if nothing did.
std::string forward(const AttentionProblem& problem, void* stream);
std::string backward(const AttentionProblem& problem, void* stream);

// How many GPUs the driver shows, and why there is none where it shows none.
int devices(std::string& why);

// Makes a device the current one for this thread's launches from here. Returns what went wrong, empty if nothing did.
// subtle: PyTorch has a CUDA runtime of its own, with an idea of its own which device is current.
std::string use(int device);

// The compute capability of a device, 80 for 8.0; 0 where it cannot be asked.
int capability(int device);

}  // namespace cuda

namespace emulated {

// The same functions; addresses are the CPU's, and the work is done when they return. The order in which threads take turns
// and its seed are those of cuda_on_cpu/simt.h.
std::string refusal(const AttentionProblem& problem, int sm);
std::string forward(const AttentionProblem& problem, void* stream);
std::string backward(const AttentionProblem& problem, void* stream);

}  // namespace emulated
}  // namespace minglm
