// The CUDA kernels, compiled for the CPU: device.h gives them simt.h where nvcc gives them a GPU, and
// namespace emulated.
#include "../cuda/launch.cu"
