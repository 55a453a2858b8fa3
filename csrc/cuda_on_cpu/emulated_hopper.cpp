// The CUDA kernel for Hopper, compiled for the CPU; as emulated.cpp.
#include "../cuda/hopper.cu"
