// What a kernel may use: one set of names with two implementations. nvcc takes the lower half of this file,
// where the tensor-core instructions are single lines of PTX. Any other compiler takes
// csrc/cuda_on_cpu/simt.h, where they are carried out one lane at a time. The kernels themselves contain no
// #if, no asm, no <<<>>> and no static __shared__, and do not know the difference.
//
//   pack, unpack                  two 16-bit numbers in a register, the first in the lower half
//   copy16_async, commit_copies,  copy 16 bytes from global to shared memory in the background (both 16-byte
//   wait_copies<N>                aligned); close a group of copies; wait until at most the N youngest groups
//                                 of this thread are under way
//   load_matrices, _transposed    four 8x8 matrices of 16-bit numbers from shared memory; lanes 8j..8j+7 give
//                                 the rows of matrix j
//   multiply_add                  d += a b on the tensor cores, 16 x 8 += 16 x 16 times 16 x 8; mma.cuh says
//                                 which lane holds what
//   load16, store16               16 bytes at once, global or shared memory
//   exp2_fast                     2^x to about 2 units in the last place; 0 for -inf
//   shared_memory                 the block's shared memory, aligned to 128 bytes, uninitialised
//   launch                        starts a kernel on a stream; returns the error, or cudaSuccess
#pragma once
#include <cstddef>
#include <cstdint>

namespace minglm {

// 16-bit numbers are only moved, packed and multiplied by tensor cores: they need no arithmetic operators.
struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

}  // namespace minglm

#ifndef __CUDACC__

#define MINGLM_DEVICE emulated
#include "../cuda_on_cpu/simt.h"

#else

#define MINGLM_DEVICE cuda
#include <cuda_runtime.h>

namespace minglm {
namespace cuda {

// sm_75 has neither bfloat16 nor background copies: kernels that use them are empty there, and launch.cu
// never launches them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define MINGLM_SM80(...)
#else
#define MINGLM_SM80(...) __VA_ARGS__
#endif

template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high);

template <>
__device__ __forceinline__ uint32_t pack<bf16>(float low, float high) {
    uint32_t pair = 0;
    // subtle: upper half first
    MINGLM_SM80(asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));)
    return pair;
}

template <>
__device__ __forceinline__ uint32_t pack<f16>(float low, float high) {
    uint32_t pair = 0;
    MINGLM_SM80(asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));)
    return pair;
}

template <class T>
__device__ __forceinline__ float2 unpack(uint32_t pair);

template <>
__device__ __forceinline__ float2 unpack<bf16>(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

template <>
__device__ __forceinline__ float2 unpack<f16>(uint32_t pair) {
    float2 x;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
        : "=f"(x.x), "=f"(x.y)
        : "r"(pair));
    return x;
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void copy16_async(void* shared, const void* global) {
    const uint32_t to = shared_address(shared);
    MINGLM_SM80(asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(global)
                             : "memory");)
}

__device__ __forceinline__ void commit_copies() {
    MINGLM_SM80(asm volatile("cp.async.commit_group;" ::: "memory");)
}

template <int N>
__device__ __forceinline__ void wait_copies() {
    MINGLM_SM80(asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");)
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

template <class T>
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

#define MINGLM_MULTIPLY_ADD(T, NAME)                                                          \
    template <>                                                                               \
    __device__ __forceinline__ void multiply_add<T>(float (&d)[4], const uint32_t (&a)[4],    \
                                                    const uint32_t (&b)[2]) {                 \
        MINGLM_SM80(asm("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 "        \
                        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"     \
                        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                      \
                        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));) \
    }
MINGLM_MULTIPLY_ADD(bf16, "bf16")
MINGLM_MULTIPLY_ADD(f16, "f16")

__device__ __forceinline__ uint4 load16(const void* from) { return *static_cast<const uint4*>(from); }

__device__ __forceinline__ void store16(void* to, uint4 x) { *static_cast<uint4*>(to) = x; }

__device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char memory[];
    return memory;
}

template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, size_t shared_bytes,
                   cudaStream_t stream, Args... args) {
    if (shared_bytes > 48 * 1024) {  // more needs an explicit request
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       static_cast<int>(shared_bytes));
        if (error != cudaSuccess) return error;
    }
    kernel<<<grid, threads, shared_bytes, stream>>>(static_cast<Params>(args)...);
    return cudaGetLastError();
}

}  // namespace cuda
}  // namespace minglm

#endif
