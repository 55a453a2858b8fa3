// A small CUDA machine on a CPU: what the kernels of csrc/cuda see when a C++ compiler, not nvcc, compiles
// them. Every CI run executes them this way without a GPU; a debugger can step through one thread; the
// sanitizers see every access.
// Include it through cuda/device.h.
//
// Each CUDA thread is a fiber (fiber.h): it has its own stack, and runs as plain C++ until it has to wait for
// others. Then the next thread that can run continues. A block stays on one OS thread; several OS threads
// take blocks in turn.
//
//     lane 0   --code--> multiply_add .                          .--> code --> ...
//     lane 1                           --code--> multiply_add .  |
//     ...                                                        |
//     lane 31                                 --code--> multiply_add: the last to arrive computes for all 32
//
// Warp collectives (shuffles, votes, load_matrices, multiply_add) work like that: each lane leaves the
// addresses of its operands and waits; the operands stay where they are, so the last lane can read them all
// and write all results.
//
// Schedules. The schedule (schedule.h) decides which thread runs next, and a good one finds a missing
// barrier. A random choice among all threads does not, because then all warps advance alike. `in-order` and
// `reverse` let one warp run as far as it can; `pct` gives the warps random priorities and redraws them about
// every 256 turns. The seed reproduces every random choice.
//
// Shared memory starts as bytes 0xFF, a NaN in every format. So does the target of a copy16_async between its
// issue and the wait for it; with probability 1/8 the copy arrives at once, as it may on a GPU.
//
// Reported (last_report): barriers that not all threads reach, or reach on different lines; masks that name
// the wrong lanes; different collectives that meet; collectives of the whole warp called by a part of it or
// from two places; deadlocks; addresses of load_matrices and copy16_async that are misaligned or outside
// shared memory; matrices read where nothing was written; launches that a GPU refuses. The launch ends at the
// first report. Other addresses are left to AddressSanitizer, and races to ThreadSanitizer: only barriers
// order accesses (fiber.h).
//
// Not emulated: time; warps in lockstep (lanes may always drift apart); the order in which tensor cores add,
// and the last bits of their sums (here: k ascending, each sum rounded to float32); exp2 rounded as on a GPU;
// static __shared__, atomics, streams (a launch has ended when it returns), more than one dimension of
// threads. Two barriers on one line count as one place.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "schedule.h"

// ---- CUDA's own names -------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#ifdef __OPTIMIZE__
#define __forceinline__ inline __attribute__((always_inline))
#else
#define __forceinline__ inline  // a debugger can step into it
#endif

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using cudaStream_t = void*;
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719,
};
inline const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess ? "no error" : minglm::emulated::last_report().c_str();
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }

namespace minglm {
namespace emulated {

struct Index {
    unsigned x, y, z;
};
struct Here {  // where the running thread is
    Index thread, block, threads, grid;
    unsigned char* shared;
    bool counting;  // count_traffic
};
// subtle: hidden, so that access is cheap, but not initial-exec: the CUDA runtime, which may be linked into
// the same library, has kilobytes of thread-local memory, and a library that is loaded late gets little
// static thread-local storage
extern __thread Here here __attribute__((visibility("hidden")));

// Where a kernel calls one of these functions: a default argument, so that it is the kernel's line.
struct Site {
    const char* file;
    int line;
    static constexpr Site get(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

// Implemented in simt.cpp.
enum class Shuffle { index, up, down, exclusive_or };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site site);
void note_access(const void* address, Site site);
void load_matrices(uint32_t (&r)[4], const void* row, bool transposed, Site site);
void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_f16, Site site);
void wait_copies(unsigned under_way);
cudaError_t run_grid(void (*body)(const void*), const void* call, dim3 grid, int threads,
                     size_t shared_bytes);

template <class T>
T shuffled(Shuffle kind, unsigned mask, T value, int argument, int width, Site site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "32 or 64 bits");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = shuffle(kind, mask, bits, argument, width, site);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace emulated
}  // namespace minglm

#define threadIdx (::minglm::emulated::here.thread)
#define blockIdx (::minglm::emulated::here.block)
#define blockDim (::minglm::emulated::here.threads)
#define gridDim (::minglm::emulated::here.grid)

using MinglmSite = minglm::emulated::Site;
void __syncthreads(MinglmSite site = MinglmSite::get());
void __syncwarp(unsigned mask = 0xffffffffu, MinglmSite site = MinglmSite::get());
unsigned __ballot_sync(unsigned mask, int predicate, MinglmSite site = MinglmSite::get());
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
int __any_sync(unsigned mask, int predicate, MinglmSite site = MinglmSite::get());
int __all_sync(unsigned mask, int predicate, MinglmSite site = MinglmSite::get());

// subtle: on a GPU the value of a lane outside the mask is undefined; here it is all ones.
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, MinglmSite site = MinglmSite::get()) {
    return shuffled(minglm::emulated::Shuffle::index, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 MinglmSite site = MinglmSite::get()) {
    return shuffled(minglm::emulated::Shuffle::up, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   MinglmSite site = MinglmSite::get()) {
    return shuffled(minglm::emulated::Shuffle::down, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  MinglmSite site = MinglmSite::get()) {
    return shuffled(minglm::emulated::Shuffle::exclusive_or, mask, value, lane_mask, width, site);
}

// ---- the device layer: cuda/device.h explains each function -----------------------------------------------

namespace minglm {
namespace emulated {

// To 16 bits, rounded to nearest, ties to even; every NaN becomes 0x7fff, as on the GPU.
inline uint16_t bf16_bits(float x) {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline uint16_t f16_bits(float x) {
    uint32_t bits = __float_as_uint(x);
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fff;
    if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more round to infinity
    // below 2^-14: multiples of 2^-24, like the floats from 1/2 to 1; the addition rounds
    if (bits < 0x38800000u)
        return static_cast<uint16_t>(sign |
                                     (__float_as_uint(__uint_as_float(bits) + 0.5f) - __float_as_uint(0.5f)));
    return static_cast<uint16_t>(sign | ((bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13));
}

inline float bf16_value(uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }

inline float f16_value(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = uint32_t(bits & 0x7fff) << 13,
                   unit = 113u << 23;
    const uint32_t subnormal = __float_as_uint(__uint_as_float(rest + unit) - __uint_as_float(unit));
    // infinity and NaN: twice the shift
    const uint32_t normal = rest + ((bits & 0x7c00) == 0x7c00 ? 224u << 23 : 112u << 23);
    return __uint_as_float(sign | (bits & 0x7c00 ? normal : subnormal));
}

template <class T>
uint32_t pack(float low, float high);
template <>
inline uint32_t pack<bf16>(float low, float high) {
    return bf16_bits(low) | uint32_t(bf16_bits(high)) << 16;
}
template <>
inline uint32_t pack<f16>(float low, float high) {
    return f16_bits(low) | uint32_t(f16_bits(high)) << 16;
}

template <class T>
float2 unpack(uint32_t pair);
template <>
inline float2 unpack<bf16>(uint32_t pair) {
    return {bf16_value(static_cast<uint16_t>(pair)), bf16_value(static_cast<uint16_t>(pair >> 16))};
}
template <>
inline float2 unpack<f16>(uint32_t pair) {
    return {f16_value(static_cast<uint16_t>(pair)), f16_value(static_cast<uint16_t>(pair >> 16))};
}

inline float exp2_fast(float x) {
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;  // flushes subnormal results, but not NaN
}

inline uint4 load16(const void* address, Site site = Site::get()) {
    if (here.counting) note_access(address, site);
    return *static_cast<const uint4*>(address);
}
inline void store16(void* address, uint4 value, Site site = Site::get()) {
    if (here.counting) note_access(address, site);
    *static_cast<uint4*>(address) = value;
}

void copy16_async(void* shared, const void* global, Site site = Site::get());
void commit_copies();
template <int N>
void wait_copies() {
    wait_copies(static_cast<unsigned>(N));
}

inline void load_matrices(uint32_t (&r)[4], const void* row, Site site = Site::get()) {
    load_matrices(r, row, false, site);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row, Site site = Site::get()) {
    load_matrices(r, row, true, site);
}

template <class T>
void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::get());
template <>
inline void multiply_add<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    multiply_add(d, a, b, false, site);
}
template <>
inline void multiply_add<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
    multiply_add(d, a, b, true, site);
}

inline unsigned char* shared_memory() { return here.shared; }

// A kernel and its arguments, by value as on a GPU.
template <class... Params>
struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;

    template <size_t... I>
    void run(std::index_sequence<I...>) const {
        kernel(std::get<I>(params)...);
    }
    static void body(const void* call) {
        static_cast<const Call*>(call)->run(std::index_sequence_for<Params...>());
    }
};

template <class... Params, class... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t,
                   Args... args) {
    const Call<Params...> call{kernel, std::tuple<Params...>(static_cast<Params>(args)...)};
    return run_grid(&Call<Params...>::body, &call, grid, threads, shared_bytes);
}

}  // namespace emulated
}  // namespace minglm
