// Masked attention with the CUDA kernels: on a GPU (namespace cuda, compiled by nvcc from launch.cu) and on a
// CPU (namespace emulated, compiled by the C++ compiler through csrc/cuda_on_cpu).
#pragma once
#include <cstdint>
#include <string>

#include "../attention.h"

namespace minglm {
namespace cuda {

// Why the kernels do not serve such a problem, in one line; empty if they do. sm: the compute capability of
// the device, 80 for 8.0.
std::string refusal(const AttentionProblem& problem, int sm);

// How many blocks should share the keys of each row in forward, 1 to 32, on a GPU with that many
// multiprocessors; and the number of floats that `problem.parts` then needs. Looks at sizes only.
int splits(const AttentionProblem& problem, int multiprocessors);
int64_t parts_size(const AttentionProblem& problem, int splits);

// Whether backward should take the kernel for short samples, if the longest has so many rows, on a GPU with
// so many multiprocessors and bytes of shared memory for a block.
bool is_short(const AttentionProblem& problem, int64_t longest, int multiprocessors, int shared_bytes);

// Start the kernels on a stream (a cudaStream_t) of the current device and return at once. All addresses,
// including those of the lengths, are in the device's memory; backward writes to problem.delta. Return the
// error, empty if there is none.
std::string forward(const AttentionProblem& problem, void* stream);
std::string backward(const AttentionProblem& problem, void* stream);

// The number of GPUs that the driver shows; if it is 0, `why` says why.
int devices(std::string& why);

// Makes a device the current one for launches by this thread from here. Returns the error, empty if there is
// none.
// subtle: PyTorch has its own CUDA runtime, with its own current device.
std::string use(int device);

// The compute capability of a device, 80 for 8.0; how many multiprocessors it has; and how many bytes of
// shared memory a block can have. 0 if that cannot be determined.
int capability(int device);
int multiprocessors(int device);
int shared_bytes(int device);

}  // namespace cuda

namespace emulated {

// The same functions, with addresses in the CPU's memory; the work is done when they return. The order in
// which threads take turns, and its seed, are set in cuda_on_cpu/schedule.h.
std::string refusal(const AttentionProblem& problem, int sm);
int splits(const AttentionProblem& problem, int multiprocessors);
int64_t parts_size(const AttentionProblem& problem, int splits);
bool is_short(const AttentionProblem& problem, int64_t longest, int multiprocessors, int shared_bytes);
std::string forward(const AttentionProblem& problem, void* stream);
std::string backward(const AttentionProblem& problem, void* stream);

}  // namespace emulated
}  // namespace minglm
