// Chooses the kernel for a problem and starts it; launch.h is the interface. Allocates nothing and waits for
// nothing.
#include "launch.h"

#include <algorithm>

#include "backward.cuh"
#include "forward.cuh"
#include "short.cuh"
#include "simple.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

namespace {

// What a block may use on every GPU from compute capability 8.0 on, and from 7.5 on.
constexpr int SHARED_BYTES = 99 * 1024, SIMPLE_BYTES = 64 * 1024;

constexpr int SHORT_WIDTH = 64;  // the head width that grad_short_kernel serves

std::string words(cudaError_t error) { return error == cudaSuccess ? "" : cudaGetErrorString(error); }

// Calls run with the head width as a std::integral_constant.
template <class Run>
auto for_width(int64_t head_dim, const Run& run) {
    if (head_dim == 32) return run(std::integral_constant<int, 32>());
    if (head_dim == 64) return run(std::integral_constant<int, 64>());
    if (head_dim == 96) return run(std::integral_constant<int, 96>());
    return run(std::integral_constant<int, 128>());
}

dim3 grid(int64_t places, int64_t heads, int64_t splits = 1) {
    return dim3(static_cast<unsigned>(places), static_cast<unsigned>(heads), static_cast<unsigned>(splits));
}

template <int D, class T>
std::string forward_as(const AttentionProblem& p, cudaStream_t stream) {
    using Shape = ForwardShape<D>;
    using Few = FewShape<D>;
    static_assert(Shape::shared_bytes <= SHARED_BYTES && Few::shared_bytes <= SHARED_BYTES, "");
    if (has_few_rows(p)) {
        const int64_t splits = p.parts ? p.splits : 1;
        const dim3 blocks = grid(places(p.queries, p.samples, Few::rows), p.heads, splits);
        std::string wrong = words(
            launch(&forward_few_kernel<D, T>, blocks, Few::threads, Few::shared_bytes, stream, p));
        if (splits == 1 || !wrong.empty()) return wrong;
        using Combine = CombineShape;
        const int64_t warps = places(p.queries, p.samples, 1);
        const dim3 rows = grid((warps + Combine::warps - 1) / Combine::warps, p.heads);
        return words(launch(&combine_kernel<D, T>, rows, Combine::threads, 0, stream, p));
    }
    return words(launch(&forward_kernel<D, T>, grid(places(p.queries, p.samples, Shape::rows), p.heads),
                        Shape::threads, Shape::shared_bytes, stream, p));
}

template <int D, class T>
std::string backward_as(const AttentionProblem& p, cudaStream_t stream) {
    using Shape = BackwardShape<D>;
    static_assert(Shape::grad_q_bytes <= SHARED_BYTES && Shape::grad_kv_bytes <= SHARED_BYTES, "");
    if constexpr (D == SHORT_WIDTH)
        if (p.longest)
            return words(launch(&grad_short_kernel<D, T>, grid(p.samples, p.heads), ShortShape<D>::threads,
                                ShortShape<D>::bytes(static_cast<int>(p.longest)), stream, p));
    std::string wrong;
    if (p.queries)
        wrong = words(launch(&grad_q_kernel<D, T>, grid(places(p.queries, p.samples, Shape::own), p.heads),
                             Shape::threads, Shape::grad_q_bytes, stream, p));
    if (wrong.empty() && p.keys)
        wrong = words(launch(&grad_kv_kernel<D, T>, grid(places(p.keys, p.samples, Shape::own), p.heads),
                             Shape::threads, Shape::grad_kv_bytes, stream, p));
    return wrong;
}

template <int D>
std::string forward_simply(const AttentionProblem& p, cudaStream_t stream) {
    using Shape = SimpleShape;
    return words(launch(&forward_simple<D>, grid(places(p.queries, p.samples, Shape::rows), p.heads),
                        Shape::threads, simple_bytes<D>(1, 2, 1), stream, p));
}

template <int D>
std::string backward_simply(const AttentionProblem& p, cudaStream_t stream) {
    using Shape = SimpleShape;
    static_assert(simple_bytes<D>(2, 2, 2) <= SIMPLE_BYTES, "");
    std::string wrong;
    if (p.queries)
        wrong = words(launch(&grad_q_simple<D>, grid(places(p.queries, p.samples, Shape::rows), p.heads),
                             Shape::threads, simple_bytes<D>(2, 2, 1), stream, p));
    if (wrong.empty() && p.keys)
        wrong = words(launch(&grad_kv_simple<D>, grid(places(p.keys, p.samples, Shape::rows), p.heads),
                             Shape::threads, simple_bytes<D>(2, 2, 2), stream, p));
    return wrong;
}

bool sixteen_bits(Dtype dtype) { return dtype == Dtype::bfloat16 || dtype == Dtype::float16; }

// Tensor-core kernels move rows 16 bytes at a time.
std::string badly_placed(const char* name, const Rows& x) {
    const bool aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row % 8 == 0 && x.head % 8 == 0;
    if (x.data && !aligned)
        return std::string(name) + ": rows of heads that do not begin at multiples of 16 bytes";
    if (x.row > INT32_MAX / 2) return std::string(name) + ": a row stride of 4 GiB or more";
    return "";
}

}  // namespace

std::string refusal(const AttentionProblem& p, int sm) {
    if (p.dtype == Dtype::float64) return "float64; the CUDA kernels serve float32, bfloat16 and float16";
    if (p.head_dim != 32 && p.head_dim != 64 && p.head_dim != 96 && p.head_dim != 128)
        return "head width " + std::to_string(p.head_dim) + "; the CUDA kernels serve 32, 64, 96 and 128";
    if (p.heads > 65535) return std::to_string(p.heads) + " heads; the CUDA kernels serve up to 65535";
    const int needed = sixteen_bits(p.dtype) ? 80 : 75;
    if (sm < needed)
        return "compute capability " + std::to_string(sm / 10) + "." + std::to_string(sm % 10) +
               "; these kernels need " + std::to_string(needed / 10) + "." + std::to_string(needed % 10);
    if (!sixteen_bits(p.dtype)) return "";
    const std::pair<const char*, const Rows*> tensors[] = {{"q", &p.q},
                                                           {"k", &p.k},
                                                           {"v", &p.v},
                                                           {"out", &p.out},
                                                           {"grad_out", &p.grad_out},
                                                           {"grad_q", &p.grad_q},
                                                           {"grad_k", &p.grad_k},
                                                           {"grad_v", &p.grad_v}};
    for (const auto& [name, x] : tensors)
        if (const std::string wrong = badly_placed(name, *x); !wrong.empty()) return wrong;
    return "";
}

// Two blocks for each multiprocessor, but at least four tiles for each block: with fewer, the second kernel
// costs more than the first one saves.
int splits(const AttentionProblem& p, int multiprocessors) {
    if (!sixteen_bits(p.dtype) || !p.queries || !p.heads || !has_few_rows(p)) return 1;
    return for_width(p.head_dim, [&](auto width) {
        constexpr int D = decltype(width)::value;
        const int64_t blocks = places(p.queries, p.samples, FewShape<D>::rows) * p.heads;
        const int64_t tiles = p.keys / p.samples / FewShape<D>::keys;
        const int64_t wanted = std::min(2 * multiprocessors / blocks, tiles / 4);
        return static_cast<int>(std::clamp<int64_t>(wanted, 1, CombineShape::most_splits));
    });
}

int64_t parts_size(const AttentionProblem& p, int splits) {
    return splits > 1 ? splits * p.heads * p.queries * (p.head_dim + 2) : 0;
}

// Two blocks for each multiprocessor: with fewer, the kernels that cut samples have more to run at a time.
bool is_short(const AttentionProblem& p, int64_t longest, int multiprocessors, int shared_bytes) {
    using Shape = ShortShape<SHORT_WIDTH>;
    if (!sixteen_bits(p.dtype) || p.head_dim != SHORT_WIDTH) return false;
    if (longest < 1 || longest > Shape::most_rows || multiprocessors < 1) return false;
    return Shape::bytes(static_cast<int>(longest)) <= shared_bytes &&
           p.samples * p.heads >= 2 * multiprocessors;
}

std::string forward(const AttentionProblem& p, void* stream) {
    if (!p.queries || !p.heads) return "";
    const auto s = static_cast<cudaStream_t>(stream);
    return for_width(p.head_dim, [&](auto width) {
        constexpr int D = decltype(width)::value;
        if (p.dtype == Dtype::bfloat16) return forward_as<D, bf16>(p, s);
        if (p.dtype == Dtype::float16) return forward_as<D, f16>(p, s);
        return forward_simply<D>(p, s);
    });
}

std::string backward(const AttentionProblem& p, void* stream) {
    if (!p.heads) return "";
    const auto s = static_cast<cudaStream_t>(stream);
    return for_width(p.head_dim, [&](auto width) {
        constexpr int D = decltype(width)::value;
        if (p.dtype == Dtype::bfloat16) return backward_as<D, bf16>(p, s);
        if (p.dtype == Dtype::float16) return backward_as<D, f16>(p, s);
        return backward_simply<D>(p, s);
    });
}

}  // namespace MINGLM_DEVICE

#ifdef __CUDACC__
namespace cuda {

int devices(std::string& why) {
    int count = 0, driver = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    // without a driver, the runtime reports one that is too old
    const bool none =
        error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
    why = none ? "there is no NVIDIA driver" : words(error);
    return error == cudaSuccess ? count : 0;
}

std::string use(int device) { return words(cudaSetDevice(device)); }

int capability(int device) {
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) return 0;
    if (cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) return 0;
    return 10 * major + minor;
}

int multiprocessors(int device) {
    int count = 0;
    return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess ? count : 0;
}

int shared_bytes(int device) {
    int bytes = 0;
    const cudaDeviceAttr most = cudaDevAttrMaxSharedMemoryPerBlockOptin;
    return cudaDeviceGetAttribute(&bytes, most, device) == cudaSuccess ? bytes : 0;
}

}  // namespace cuda
#endif

}  // namespace minglm
