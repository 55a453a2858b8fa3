// Starts the kernel of hopper.cuh; hopper.h is the interface. A file of its own, because it alone is compiled
// for sm_90a, whose machine code runs on compute capability 9.0 and nowhere else.
#include "hopper.h"

#include "hopper.cuh"

namespace minglm {
namespace MINGLM_DEVICE {

namespace {

constexpr int MOST_SHARED_BYTES = 227 * 1024;

template <int D, class T>
std::string hopper_as(const AttentionProblem& p, cudaStream_t stream) {
    using Shape = HopperShape<D>;
    static_assert(Shape::shared_bytes <= MOST_SHARED_BYTES, "");
    const dim3 grid(static_cast<unsigned>(places(p.queries, p.samples, Shape::rows)),
                    static_cast<unsigned>(p.heads));
    const cudaError_t error =
        launch(&forward_hopper_kernel<D, T>, grid, Shape::threads, Shape::shared_bytes, stream, p);
    return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace

std::string hopper_refusal(const AttentionProblem& p, int sm) {
    if (sm != 90)
        return "compute capability " + std::to_string(sm / 10) + "." + std::to_string(sm % 10) +
               "; the Hopper kernel needs 9.0";
    if (p.dtype != Dtype::bfloat16 && p.dtype != Dtype::float16)
        return "the Hopper kernel serves bfloat16 and float16";
    if (p.head_dim != 64 && p.head_dim != 128)
        return "head width " + std::to_string(p.head_dim) + "; the Hopper kernel serves 64 and 128";
    if (!(p.scale > 0))
        return "scale " + std::to_string(p.scale) + "; the Hopper kernel serves positive ones";
    return "";
}

bool hopper_pays(const AttentionProblem& p) { return !has_few_rows(p); }

std::string hopper_forward(const AttentionProblem& p, void* stream) {
    if (!p.queries || !p.heads) return "";
    const auto s = static_cast<cudaStream_t>(stream);
    if (p.head_dim == 64)
        return p.dtype == Dtype::bfloat16 ? hopper_as<64, bf16>(p, s) : hopper_as<64, f16>(p, s);
    return p.dtype == Dtype::bfloat16 ? hopper_as<128, bf16>(p, s) : hopper_as<128, f16>(p, s);
}

}  // namespace MINGLM_DEVICE
}  // namespace minglm
