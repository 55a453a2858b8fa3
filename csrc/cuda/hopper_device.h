// What a kernel may use on Hopper (compute capability 9.0) beyond device.h; in the same way, nvcc takes the
// lower half of this file, and any other compiler csrc/cuda_on_cpu/hopper.h. A warpgroup is four warps, 128
// threads, from a multiple of 128 on.
//
//   matrix_at                     what a product is told of a matrix in shared memory: a slab of 64 columns
//                                 has rows of 128 bytes, chunks of 16 bytes are at chunk ^ (row % 8), and the
//                                 next slab begins `slab` bytes later; the tile begins at a multiple of 1024.
//                                 Columns + 16 k: matrix + 2 k. Rows + 8 k: matrix + 64 k.
//   multiply_group                begins d = a b^T, or d += a b^T with `add`, for a warpgroup: 64 x N, with
//                                 a of 64 x 16 and b of N x 16 in shared memory. A warp holds 16 rows of d,
//                                 each lane as in mma.cuh
//   multiply_group_transposed     begins d += a b, with a in registers as in mma.cuh, and b of 16 x N
//   start_products, end_products  around products that are waited for together: registers are in place before
//   wait_products<N>              waits until at most the N youngest groups of this warp are under way
//   pin                           no instruction that reads or writes d moves across; after each wait
//   computed                      a sum that is never negative is computed before anything that comes later
//   publish_copies                makes what this thread has copied and waited for visible to products
//   barrier_init, _arrive, _wait  a barrier in shared memory counts arrivals, and goes on to its next phase
//                                 when all have come; wait for the end of the phase of a parity, 0 first
//   barrier_done                  look whether that phase has ended
//   group_sync, group_arrive      a barrier of some warps: name 1 to 15, and the number of threads that come;
//                                 group_arrive does not wait
//   fewer_registers, more_...     a warpgroup gives registers back, or takes them: N per thread from here on
#pragma once
#include "device.h"

#ifndef __CUDACC__

#include <type_traits>

#include "../cuda_on_cpu/hopper.h"

#else

namespace minglm {
namespace cuda {

// These instructions exist in code for sm_90a only: for others the kernels are empty, and hopper.cu never
// launches them.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MINGLM_SM90(...) __VA_ARGS__
#else
#define MINGLM_SM90(...)
#endif

using Matrix = uint64_t;

// d as 4 or 8 operands of eight registers each; an f32 register for each number.
#define MINGLM_D8(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3]), "+f"(d[i + 1][0]), \
        "+f"(d[i + 1][1]), "+f"(d[i + 1][2]), "+f"(d[i + 1][3])
#define MINGLM_D32 MINGLM_D8(0), MINGLM_D8(2), MINGLM_D8(4), MINGLM_D8(6)
#define MINGLM_D64 MINGLM_D32, MINGLM_D8(8), MINGLM_D8(10), MINGLM_D8(12), MINGLM_D8(14)
#define MINGLM_N32                                                                                         \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MINGLM_N64                                                                                         \
    MINGLM_N32                                                                                             \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, "    \
    "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

template <class T>
__device__ __forceinline__ void multiply_group(float (&d)[16][4], Matrix a, Matrix b, bool add);
template <class T>
__device__ __forceinline__ void multiply_group_transposed(float (&d)[8][4], const uint32_t (&a)[4], Matrix b);
template <class T>
__device__ __forceinline__ void multiply_group_transposed(float (&d)[16][4], const uint32_t (&a)[4],
                                                          Matrix b);

// subtle: the last numbers are the signs of a and b, and whether the numbers of a row of a, and of b, lie
// side by side along the other dimension (transposed)
#define MINGLM_MULTIPLY_GROUP(T, NAME)                                                                       \
    template <>                                                                                              \
    __device__ __forceinline__ void multiply_group<T>(float (&d)[16][4], Matrix a, Matrix b, bool add) {     \
        MINGLM_SM90(asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0;\n"                                  \
                                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." NAME "." NAME                \
                                 " {" MINGLM_N64 "}, %64, %65, p, 1, 1, 0, 0; }"                             \
                                 : MINGLM_D64                                                                \
                                 : "l"(a), "l"(b), "r"(static_cast<int>(add)));)                             \
    }                                                                                                        \
    template <>                                                                                              \
    __device__ __forceinline__ void multiply_group_transposed<T>(float (&d)[8][4], const uint32_t (&a)[4],   \
                                                                 Matrix b) {                                 \
        MINGLM_SM90(asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." NAME "." NAME                 \
                                 " {" MINGLM_N32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                 \
                                 : MINGLM_D32                                                                \
                                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));)                     \
    }                                                                                                        \
    template <>                                                                                              \
    __device__ __forceinline__ void multiply_group_transposed<T>(float (&d)[16][4], const uint32_t (&a)[4],  \
                                                                 Matrix b) {                                 \
        MINGLM_SM90(asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." NAME "." NAME                \
                                 " {" MINGLM_N64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"                 \
                                 : MINGLM_D64                                                                \
                                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));)                     \
    }
MINGLM_MULTIPLY_GROUP(bf16, "bf16")
MINGLM_MULTIPLY_GROUP(f16, "f16")

__device__ __forceinline__ void start_products() {
    MINGLM_SM90(asm volatile("wgmma.fence.sync.aligned;" ::: "memory");)
}

__device__ __forceinline__ void end_products() {
    MINGLM_SM90(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");)
}

template <int N>
__device__ __forceinline__ void wait_products() {
    MINGLM_SM90(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");)
}

template <int R>
__device__ __forceinline__ void pin(float (&d)[R][4]) {
#pragma unroll
    for (int i = 0; i < R; ++i)
#pragma unroll
        for (int k = 0; k < 4; ++k) asm volatile("" : "+f"(d[i][k])::"memory");
}

// subtle: ptxas moves arithmetic behind a wait, where no product runs beside it, but no wait before a trap
__device__ __forceinline__ void computed(float sum) {
    MINGLM_SM90(
        asm volatile("{ .reg .pred p; setp.lt.f32 p, %0, 0f00000000; @p trap; }" ::"f"(sum) : "memory");)
}

__device__ __forceinline__ void publish_copies() {
    MINGLM_SM90(asm volatile("fence.proxy.async.shared::cta;" ::: "memory");)
}

__device__ __forceinline__ void barrier_init(uint64_t* barrier, int arrivals) {
    MINGLM_SM90(asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                             "r"(arrivals) : "memory");)
}

__device__ __forceinline__ void barrier_arrive(uint64_t* barrier) {
    MINGLM_SM90(
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");)
}

// subtle: test_wait only looks, try_wait sleeps for a while
#define MINGLM_BARRIER_ENDED(LOOK)                                                                     \
    uint32_t ended = 1;                                                                                \
    MINGLM_SM90(asm volatile("{ .reg .pred p; mbarrier." LOOK ".parity.shared::cta.b64 p, [%1], %2; "  \
                             "selp.u32 %0, 1, 0, p; }"                                                 \
                             : "=r"(ended)                                                             \
                             : "r"(shared_address(barrier)), "r"(parity)                               \
                             : "memory");)

__device__ __forceinline__ bool barrier_done(uint64_t* barrier, int parity) {
    MINGLM_BARRIER_ENDED("test_wait")
    return ended;
}

__device__ __forceinline__ void barrier_wait(uint64_t* barrier, int parity) {
    while (true) {
        MINGLM_BARRIER_ENDED("try_wait")
        if (ended) return;
    }
}

__device__ __forceinline__ void group_sync(int name, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

__device__ __forceinline__ void group_arrive(int name, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

template <int N>
__device__ __forceinline__ void fewer_registers() {
    MINGLM_SM90(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));)
}

template <int N>
__device__ __forceinline__ void more_registers() {
    MINGLM_SM90(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));)
}

}  // namespace cuda
}  // namespace minglm

#endif

namespace minglm {
namespace MINGLM_DEVICE {

// subtle: 1 in the upper two bits is the swizzle of 128 bytes; eight rows are 1024 bytes
__device__ __forceinline__ Matrix matrix_at(const void* first, int slab) {
    return static_cast<uint64_t>((shared_address(first) & 0x3ffff) >> 4) |
           static_cast<uint64_t>(slab >> 4) << 16 | static_cast<uint64_t>(1024 >> 4) << 32 |
           static_cast<uint64_t>(1) << 62;
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
