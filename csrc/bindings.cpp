// The Python module minglm._C. Tensors come in as addresses and strides, lengths as addresses of int32:
// nothing here depends on torch.
//
// minglm/ops.py has checked dtypes, shapes and devices. What is left is checked here: that the lengths stay
// within the rows, so that wrong lengths are an error (std::invalid_argument, ValueError in Python), never a
// crash. Lengths on a GPU are not read back: they are checked when a GLMMask is built. The GIL is released
// while a kernel runs or starts.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <tuple>

#include "attention.h"
#include "cpu/cpu.h"
#include "cuda/hopper.h"
#include "cuda/launch.h"
#include "mask.h"
#ifdef MINGLM_EMULATED
#include "cuda_on_cpu/schedule.h"
#endif

namespace py = pybind11;
using namespace minglm;

namespace {

using Address = int64_t;
using Tensor = std::array<int64_t, 3>;   // address, row stride, head stride
using Strides = std::array<int64_t, 6>;  // row and head strides of q, k, v
using Sizes = std::array<int64_t, 5>;    // samples, heads, head_dim, rows of q, rows of k
// addresses of cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k (0: none)
using Lengths = std::array<Address, 4>;

[[noreturn]] void refuse(const std::string& name, const std::string& came_and_needed) {
    throw std::invalid_argument(name + ": " + came_and_needed);
}

std::string at(int64_t s, int64_t value) {
    return std::to_string(value) + " for sample " + std::to_string(s);
}

void* pointer(int64_t address) { return reinterpret_cast<void*>(address); }

Rows rows_of(const Tensor& x) { return {pointer(x[0]), x[1], x[2]}; }

void check_ends(const char* name, const int32_t* ends, int64_t samples, int64_t rows) {
    if (ends[0] != 0) refuse(name, "starts at " + std::to_string(ends[0]) + "; 0 is needed");
    for (int64_t s = 0; s < samples; ++s)
        if (ends[s + 1] < ends[s])
            refuse(name, "falls from " + std::to_string(ends[s]) + " to " + at(s, ends[s + 1]));
    if (ends[samples] != rows)
        refuse(name, "ends at " + std::to_string(ends[samples]) + ", but there are " + std::to_string(rows) +
                         " rows");
}

// On the host, O(samples): checks that every row and key that a kernel will touch is within its tensor.
void check_lengths(const AttentionProblem& p) {
    check_ends("cu_seqlens_q", p.cu_seqlens_q, p.samples, p.queries);
    check_ends("cu_seqlens_k", p.cu_seqlens_k, p.samples, p.keys);
    for (int64_t s = 0; s < p.samples; ++s) {
        if (p.longest && p.cu_seqlens_q[s + 1] - p.cu_seqlens_q[s] > p.longest)
            refuse("longest", std::to_string(p.longest) + ", less than the rows of a sample");
        const int64_t room = p.cu_seqlens_k[s + 1] - p.cu_seqlens_k[s],
                      used = p.seqlens_k ? p.seqlens_k[s] : room;
        if (used < 0 || used > room)
            refuse("seqlens_k", at(s, used) + "; 0 to " + std::to_string(room) + " is accepted");
        if (p.part_a_lens[s] < 0 || p.part_a_lens[s] > used)
            refuse("part_a_lens",
                   at(s, p.part_a_lens[s]) + "; 0 to its keys, " + std::to_string(used) + ", is accepted");
    }
}

// What stays the same from one call to the next: the lengths of a mask, the sizes and the layout of q, k
// and v. A call adds addresses. Results are contiguous.
class Problem {
public:
    Problem(int dtype, const Sizes& sizes, const Lengths& lengths, const Strides& strides) {
        p_.dtype = static_cast<Dtype>(dtype);
        p_.samples = sizes[0], p_.heads = sizes[1], p_.head_dim = sizes[2];
        p_.queries = sizes[3], p_.keys = sizes[4];
        p_.cu_seqlens_q = static_cast<const int32_t*>(pointer(lengths[0]));
        p_.cu_seqlens_k = static_cast<const int32_t*>(pointer(lengths[1]));
        p_.part_a_lens = static_cast<const int32_t*>(pointer(lengths[2]));
        p_.seqlens_k = static_cast<const int32_t*>(pointer(lengths[3]));
        Rows* const inputs[] = {&p_.q, &p_.k, &p_.v};
        for (int i = 0; i < 3; ++i) *inputs[i] = {nullptr, strides[2 * i], strides[2 * i + 1]};
        if (dtype < 0 || dtype > 3) refuse("dtype", std::to_string(dtype) + "; 0 to 3 is accepted");
        if (p_.head_dim < 1 || p_.head_dim > 256)
            refuse("head_dim", std::to_string(p_.head_dim) + "; 1 to 256 is accepted");
        if (p_.samples < 0 || p_.heads < 0 || p_.queries < 0 || p_.keys < 0)
            refuse("sizes", "a negative number");
    }

    AttentionProblem at(double scale, Address q, Address k, Address v, Address out, Address lse) const {
        AttentionProblem p = p_;
        p.scale = scale;
        p.q.data = pointer(q), p.k.data = pointer(k), p.v.data = pointer(v);
        p.out = contiguous(out), p.lse = pointer(lse);
        return p;
    }

    const AttentionProblem& sizes() const { return p_; }

    Rows contiguous(Address x) const { return {pointer(x), p_.heads * p_.head_dim, p_.head_dim}; }

private:
    AttentionProblem p_{};
};

// The addresses of a forward pass, and what a backward pass adds to them.
#define MINGLM_INPUTS double scale, Address q, Address k, Address v, Address out, Address lse
#define MINGLM_GRADS \
    const Tensor &grad_out, const Tensor &grad_q, const Tensor &grad_k, const Tensor &grad_v

AttentionProblem with_gradients(const Problem& problem, AttentionProblem p, MINGLM_GRADS, Address delta = 0) {
    p.grad_out = rows_of(grad_out);
    p.grad_q = rows_of(grad_q), p.grad_k = rows_of(grad_k), p.grad_v = rows_of(grad_v);
    p.delta = static_cast<float*>(pointer(delta));
    return p;
}

// The addresses of a forward pass whose keys are shared by several blocks: 1, 0 if they are not.
#define MINGLM_PARTS int splits, Address parts

AttentionProblem with_parts(AttentionProblem p, MINGLM_PARTS) {
    if (splits < 1 || splits > 32 || (splits > 1 && !parts))
        refuse("splits", std::to_string(splits) + "; 1 to 32 is accepted, and memory for the parts");
    p.splits = splits, p.parts = static_cast<float*>(pointer(splits > 1 ? parts : 0));
    return p;
}

void check_threads(int threads) {
    if (threads < 1) refuse("threads", std::to_string(threads) + "; at least 1 is needed");
}

void forward_on_cpu(const Problem& problem, const std::string& rung, int threads, MINGLM_INPUTS) {
    const AttentionProblem p = problem.at(scale, q, k, v, out, lse);
    check_lengths(p);
    check_threads(threads);
    cpu_forward(p, rung.c_str(), threads);
}

void backward_on_cpu(const Problem& problem, const std::string& rung, int threads, MINGLM_INPUTS,
                     MINGLM_GRADS) {
    const AttentionProblem p =
        with_gradients(problem, problem.at(scale, q, k, v, out, lse), grad_out, grad_q, grad_k, grad_v);
    check_lengths(p);
    check_threads(threads);
    cpu_backward(p, rung.c_str(), threads);
}

// n numbers side by side; grad_out: 0 in a forward pass.
void gelu_on_cpu(int dtype, const std::string& rung, int threads, Address x, Address grad_out, Address out,
                 int64_t n) {
    check_threads(threads);
    const GeluProblem p = {static_cast<Dtype>(dtype), n, pointer(x), pointer(grad_out), pointer(out)};
    cpu_gelu(p, rung.c_str(), threads);
}

// For the kernels of csrc/cuda, which return an error instead of throwing.
void check(const std::string& wrong, const char* who) {
    if (!wrong.empty()) throw std::runtime_error(std::string(who) + ": " + wrong);
}

void check_served(const std::string& refusal) {
    if (!refusal.empty()) throw std::invalid_argument("q, k, v: " + refusal);
}

// What a GPU should do: how many blocks share the keys of a row in forward, the float32 in parts; and
// `longest` if backward takes the kernel for short samples, else 0.
using Plan = std::tuple<int, int64_t, int64_t>;

template <class Splits, class Size, class IsShort>
Plan plan_by(Splits splits, Size size, IsShort is_short, const Problem& problem, int multiprocessors,
             int shared_bytes, int64_t longest) {
    const AttentionProblem& p = problem.sizes();
    const int shares = splits(p, multiprocessors);
    return {shares, size(p, shares), is_short(p, longest, multiprocessors, shared_bytes) ? longest : 0};
}

#ifdef MINGLM_CUDA
Plan cuda_plan(const Problem& problem, int multiprocessors, int shared_bytes, int64_t longest) {
    return plan_by(cuda::splits, cuda::parts_size, cuda::is_short, problem, multiprocessors, shared_bytes,
                   longest);
}

std::pair<int, std::string> cuda_devices() {
    std::string why;
    const int count = cuda::devices(why);
    return {count, why};
}

void cuda_forward(const Problem& problem, int device, Address stream, int sm, MINGLM_INPUTS, MINGLM_PARTS) {
    const AttentionProblem p = with_parts(problem.at(scale, q, k, v, out, lse), splits, parts);
    check_served(cuda::refusal(p, sm));
    check(cuda::use(device), "CUDA");
    check(cuda::forward(p, pointer(stream)), "CUDA");
}

#ifdef MINGLM_HOPPER
// What the kernel for Hopper cannot serve, or serves slowly, goes to the one before it.
void cuda_hopper_forward(const Problem& problem, int device, Address stream, int sm, MINGLM_INPUTS,
                         MINGLM_PARTS) {
    const AttentionProblem p = problem.at(scale, q, k, v, out, lse);
    if (!cuda::hopper_refusal(p, sm).empty() || !cuda::hopper_pays(p))
        return cuda_forward(problem, device, stream, sm, scale, q, k, v, out, lse, splits, parts);
    check_served(cuda::refusal(p, sm));
    check(cuda::use(device), "CUDA");
    check(cuda::hopper_forward(p, pointer(stream)), "CUDA");
}
#endif

void cuda_backward(const Problem& problem, int device, Address stream, int sm, MINGLM_INPUTS, MINGLM_GRADS,
                   Address delta, int64_t longest) {
    AttentionProblem p = with_gradients(problem, problem.at(scale, q, k, v, out, lse), grad_out, grad_q,
                                        grad_k, grad_v, delta);
    p.longest = longest;
    check_served(cuda::refusal(p, sm));
    check(cuda::use(device), "CUDA");
    check(cuda::backward(p, pointer(stream)), "CUDA");
}
#endif

#ifdef MINGLM_EMULATED
constexpr int EMULATED_SM = 80;

Plan emulated_plan(const Problem& problem, int multiprocessors, int shared_bytes, int64_t longest) {
    return plan_by(emulated::splits, emulated::parts_size, emulated::is_short, problem, multiprocessors,
                   shared_bytes, longest);
}

void check_emulated(const std::string& wrong) {
    check(wrong.empty() || emulated::last_report().empty() ? wrong : emulated::last_report(),
          "the emulated GPU");
}

void prepare_emulated(const AttentionProblem& p, const std::string& schedule, int threads) {
    check_lengths(p);
    check_threads(threads);
    check_served(emulated::refusal(p, EMULATED_SM));
    emulated::set_schedule(emulated::parse_schedule(schedule, threads));
}

void emulated_forward(const Problem& problem, const std::string& schedule, int threads, MINGLM_INPUTS,
                      MINGLM_PARTS) {
    const AttentionProblem p = with_parts(problem.at(scale, q, k, v, out, lse), splits, parts);
    prepare_emulated(p, schedule, threads);
    check_emulated(emulated::forward(p, nullptr));
}

void emulated_hopper_forward(const Problem& problem, const std::string& schedule, int threads, MINGLM_INPUTS,
                             int, Address) {
    const AttentionProblem p = problem.at(scale, q, k, v, out, lse);
    check_served(emulated::hopper_refusal(p, 90));
    prepare_emulated(p, schedule, threads);
    check_emulated(emulated::hopper_forward(p, nullptr));
}

void emulated_backward(const Problem& problem, const std::string& schedule, int threads, MINGLM_INPUTS,
                       MINGLM_GRADS, Address delta, int64_t longest) {
    AttentionProblem p = with_gradients(problem, problem.at(scale, q, k, v, out, lse), grad_out, grad_q,
                                        grad_k, grad_v, delta);
    p.longest = longest;
    prepare_emulated(p, schedule, threads);
    check_emulated(emulated::backward(p, nullptr));
}

py::dict memory_traffic() {
    using namespace py::literals;
    const emulated::Traffic t = emulated::traffic();
    return py::dict("matrix_phases"_a = t.matrix_phases, "matrix_conflicts"_a = t.matrix_conflicts,
                    "shared_phases"_a = t.shared_phases, "shared_conflicts"_a = t.shared_conflicts,
                    "global_sectors"_a = t.global_sectors, "global_bytes"_a = t.global_bytes);
}
#endif

std::vector<int64_t> forward_parts(int64_t len_q, int64_t len_k, int64_t part_a_len, int64_t threads) {
    return cpu_forward_parts({0, len_q, 0, len_k, part_a_len, len_k - len_q}, threads);
}

py::list rungs() {
    using namespace py::literals;
    py::list found;
    for (const RungInfo& r : cpu_rungs())
        found.append(py::dict("name"_a = r.name, "supported"_a = r.supported, "float32"_a = r.float32,
                              "bfloat16"_a = r.bfloat16, "float64"_a = r.float64));
    return found;
}

std::string compiler() {
#if defined(__clang__)
    return std::string("clang++ ") + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#elif defined(__GNUC__)
    return "g++ " __VERSION__;
#elif defined(_MSC_VER)
    return "MSVC " + std::to_string(_MSC_VER);
#else
    return "an unknown compiler";
#endif
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    using release_gil = py::call_guard<py::gil_scoped_release>;
    m.doc() = "Masked attention over plain pointers; minglm.ops is the way to call it.";
    m.attr("float32") = static_cast<int>(Dtype::float32);
    m.attr("bfloat16") = static_cast<int>(Dtype::bfloat16);
    m.attr("float64") = static_cast<int>(Dtype::float64);
    m.attr("float16") = static_cast<int>(Dtype::float16);
    m.attr("compiler") = compiler();
    m.def("keys_of_row", &keys_of_row, py::arg("i"), py::arg("part_a_len"), py::arg("len_k"),
          "The rule of the mask, in C++.");

    m.def("cpu_rungs", &rungs,
          "The rungs of this build, in ladder order: name, supported, and the dtypes each serves.");
    const auto best_rung = [](int dtype) { return cpu_best_rung(static_cast<Dtype>(dtype)); };
    m.def("cpu_best_rung", best_rung, py::arg("dtype"));
    m.def("cpu_threads_by", &cpu_threads_by);
    m.def("cpu_forward_parts", &forward_parts, py::arg("len_q"), py::arg("len_k"), py::arg("part_a_len"),
          py::arg("threads"), "Where the parts of a long sample's rows begin and end.");

    py::class_<Problem> problem(m, "Problem", "The lengths of a mask, and sizes and strides of q, k and v.");
    problem.def(py::init<int, const Sizes&, const Lengths&, const Strides&>());
    problem.def("cpu_forward", &forward_on_cpu, release_gil(), "Writes out and lse.");
    problem.def("cpu_backward", &backward_on_cpu, release_gil(),
                "Reads out, lse and grad_out too; writes grad_q, grad_k, grad_v.");

    m.def("gelu", &gelu_on_cpu, release_gil(), "Writes GELU of x to out, or with grad_out its gradient.");

    // csrc/cuda on a GPU, if nvcc compiled it. Addresses are in the device's memory; stream: a cudaStream_t
    // of that device; sm: its compute capability, 80 for 8.0. Backward also writes to delta, (heads, queries)
    // float32, and forward with splits > 1 to parts; `plan` says how.
    constexpr const char* PLAN = "(splits, float32 in parts, longest or 0) for a GPU of these sizes.";
#ifdef MINGLM_CUDA
    m.attr("cuda_built") = true;
    m.def("cuda_devices", &cuda_devices, "The number of GPUs that the driver shows, and why if it is 0.");
    m.def("cuda_capability", &cuda::capability, py::arg("device"),
          "80 for 8.0; 0 if that cannot be determined.");
    m.def("cuda_multiprocessors", &cuda::multiprocessors, py::arg("device"));
    m.def("cuda_shared_bytes", &cuda::shared_bytes, py::arg("device"));
    problem.def("cuda_plan", &cuda_plan, PLAN);
    problem.def("cuda_forward", &cuda_forward, release_gil());
    problem.def("cuda_backward", &cuda_backward, release_gil());
#ifdef MINGLM_HOPPER
    problem.def("cuda_hopper_forward", &cuda_hopper_forward, release_gil());
#endif
#else
    m.attr("cuda_built") = false;
#endif
#ifdef MINGLM_HOPPER
    m.attr("hopper_built") = true;
#else
    m.attr("hopper_built") = false;
#endif

    // The same sources, run on the CPU; schedule: "in-order", "reverse" or "pct:SEED".
#ifdef MINGLM_EMULATED
    m.attr("emulated_built") = true;
    problem.def("emulated_plan", &emulated_plan, PLAN);
    problem.def("emulated_forward", &emulated_forward, release_gil());
    problem.def("emulated_backward", &emulated_backward, release_gil());
    problem.def("emulated_hopper_forward", &emulated_hopper_forward, release_gil());
    m.def("count_traffic", &emulated::count_traffic, py::arg("on"),
          "Start or stop counting memory accesses of emulated kernels.");
    m.def("traffic", &memory_traffic, "The counts, as a dict; see csrc/cuda_on_cpu/schedule.h.");
#else
    m.attr("emulated_built") = false;
#endif
}
