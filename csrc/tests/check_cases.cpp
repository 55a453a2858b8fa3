// Checks the rungs of csrc/cpu against recorded answers. Needs neither torch nor Python, so it runs wherever
// there is a C++ compiler: under the sanitizers, and under an emulator of another machine.
//
//   check_cases cases.bin [rung ...]      the named rungs, or all that this machine supports
//
// record_cases.py says what cases.bin contains and where the budgets come from. Each case runs forward and
// backward, twice (the results must be identical bit for bit), with 1, 2 and 3 threads; each number of
// threads has its own layout of the tensors:
//
//   1   packed: (rows, heads, head_dim) without gaps
//   2   loose: a gap behind every head and every row, and no vector is aligned
//   3   fused: q, k, v in one (rows, 3, heads, head_dim), their gradients in another;
//       the rest (heads, rows, head_dim)
//
// Memory that does not belong to a tensor (gaps, unused slots of a cache) is NaN and must not change.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../cpu/cpu.h"
#include "gelu_cases.h"

using namespace minglm;

namespace {

// in the order of enum Dtype, and of the budgets
const char* const DTYPES[] = {"float32", "bfloat16", "float64"};
const char* const ANSWERS[] = {"out", "lse", "dq", "dk", "dv"};

struct Case {
    std::string name;
    int32_t samples, heads, head_dim, seed, coarse, sharp, wide, room;
    double scale;
    std::vector<int32_t> cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k;
    double budget[3][5];
    std::vector<double> answer[5];

    int64_t queries() const { return cu_seqlens_q[samples]; }
    int64_t keys() const { return cu_seqlens_k[samples]; }
};

// Reads the file from its beginning to its end.
class Reader {
public:
    explicit Reader(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) throw std::runtime_error(path + ": cannot be read");
        data_.assign(std::istreambuf_iterator<char>(file), {});
    }
    std::string text(size_t n) {
        need(n);
        return data_.substr(at_ - n, n);
    }
    template <class T>
    std::vector<T> numbers(size_t n) {
        need(n * sizeof(T));
        std::vector<T> x(n);
        if (n) std::memcpy(x.data(), data_.data() + at_ - n * sizeof(T), n * sizeof(T));
        return x;
    }
    bool at_end() const { return at_ == data_.size(); }

private:
    void need(size_t n) {
        if (data_.size() - at_ < n) throw std::runtime_error("the cases end too early");
        at_ += n;
    }
    std::string data_;
    size_t at_ = 0;
};

std::vector<Case> read_cases(const std::string& path) {
    Reader file(path);
    const std::string magic = "minglm cases 1\n";
    if (file.text(magic.size()) != magic)
        throw std::runtime_error(path + ": not a file of cases, or of another version");
    std::vector<Case> cases(file.numbers<int32_t>(1)[0]);
    for (Case& c : cases) {
        c.name = file.text(40).c_str();
        const auto n = file.numbers<int32_t>(8);
        c.samples = n[0], c.heads = n[1], c.head_dim = n[2], c.seed = n[3];
        c.coarse = n[4], c.sharp = n[5], c.wide = n[6], c.room = n[7];
        c.scale = file.numbers<double>(1)[0];
        c.cu_seqlens_q = file.numbers<int32_t>(c.samples + 1);
        c.cu_seqlens_k = file.numbers<int32_t>(c.samples + 1);
        c.part_a_lens = file.numbers<int32_t>(c.samples);
        c.seqlens_k = file.numbers<int32_t>(c.samples);
        const auto budgets = file.numbers<double>(15);
        std::memcpy(c.budget, budgets.data(), sizeof c.budget);
        for (int a = 0; a < 5; ++a) {
            const int64_t row = int64_t(c.heads) * c.head_dim;
            const int64_t size = a == 1 ? c.heads * c.queries() : (a < 3 ? c.queries() : c.keys()) * row;
            if (c.wide) {
                c.answer[a] = file.numbers<double>(size);
            } else {
                const auto narrow = file.numbers<float>(size);
                c.answer[a].assign(narrow.begin(), narrow.end());
            }
        }
    }
    if (!file.at_end()) throw std::runtime_error(path + ": goes on after its last case");
    return cases;
}

// The i-th number of a case's inputs: splitmix64, cut to the bits that bfloat16 or float32 represents
// exactly.
double input(const Case& c, uint64_t i) {
    uint64_t x = (i + (uint64_t(c.seed) << 32)) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x = x ^ x >> 31;
    const int bits = c.coarse ? 8 : 24;
    return (double(x >> (64 - bits)) - (1 << (bits - 1))) / (1 << (bits - 2));
}

struct Inputs {
    std::vector<double> q, k, v, grad_out;  // (rows, heads, head_dim)

    explicit Inputs(const Case& c) {
        const int64_t row = int64_t(c.heads) * c.head_dim;
        uint64_t i = 0;
        for (auto [to, n] :
             {std::pair(&q, c.queries()), {&k, c.keys()}, {&v, c.keys()}, {&grad_out, c.queries()}})
            for (int64_t j = 0; j < n * row; ++j) to->push_back(input(c, i++));
        for (int32_t s = 0; s < c.samples && c.sharp; ++s)
            for (int64_t n = c.cu_seqlens_q[s]; n < c.cu_seqlens_q[s + 1]; ++n)
                // row i equals the even d of key i and the odd d of key i + 1
                for (int64_t half = 0; half < 2; ++half) {
                    const int64_t key = c.seqlens_k[s] - c.cu_seqlens_q[s + 1] + n + half;
                    if (key < 0 || key >= c.seqlens_k[s]) continue;
                    for (int64_t e = 0; e < row; ++e)
                        if (e % c.head_dim % 2 == half)
                            k[(c.cu_seqlens_k[s] + key) * row + e] = q[n * row + e];
                }
    }
};

// bfloat16 is the upper half of a float32; inputs are exact in every dtype that reads them.
struct bfloat16 {
    uint16_t bits;
};
void put(double& to, double value) { to = value; }
void put(float& to, double value) { to = static_cast<float>(value); }
void put(bfloat16& to, double value) {
    const float single = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &single, 4);
    to.bits = static_cast<uint16_t>(bits >> 16);
}
double get(double x) { return x; }
double get(float x) { return x; }
double get(bfloat16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float single;
    std::memcpy(&single, &bits, 4);
    return single;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Memory of exactly the size needed, all NaN, for one or three tensors.
template <class T>
struct Memory {
    std::vector<T> data;

    explicit Memory(int64_t size) : data(size) {
        for (T& x : data) put(x, NAN);
    }
    bool untouched() const { return same_bits(data, Memory(data.size()).data); }
};

// One tensor (rows, heads, head_dim) in a Memory.
template <class T>
struct Tensor {
    T* data;
    int64_t rows, heads, dim, row, head;

    T& at(int64_t n, int64_t h, int64_t d) const { return data[n * row + h * head + d]; }
    Rows view() const { return {data, row, head}; }
    template <class Each>
    void each(Each each) const {  // each(element, its number in the packed order)
        for (int64_t n = 0, i = 0; n < rows; ++n)
            for (int64_t h = 0; h < heads; ++h)
                for (int64_t d = 0; d < dim; ++d) each(at(n, h, d), i++);
    }
    void fill(const std::vector<double>& from) const {
        each([&](T& x, int64_t i) { put(x, from[i]); });
    }
};

enum Layout { packed, loose, fused };  // for 1, 2 and 3 threads

// q, k, v or their gradients.
template <class T>
struct Three {
    std::vector<Memory<T>> memory;
    std::vector<Tensor<T>> tensors;

    Three(const Case& c, Layout layout) {
        const int64_t H = c.heads, D = c.head_dim, counts[] = {c.queries(), c.keys(), c.keys()};
        memory.reserve(3);
        if (layout == fused && c.queries() == c.keys()) memory.emplace_back(counts[0] * 3 * H * D);
        for (int i = 0; i < 3; ++i) {
            const int64_t n = counts[i];
            if (layout == fused && c.queries() == c.keys()) {
                tensors.push_back({memory[0].data.data() + i * H * D, n, H, D, 3 * H * D, D});
            } else if (layout == fused) {
                memory.emplace_back(n * H * D);
                tensors.push_back({memory[i].data.data(), n, H, D, D, n * D});
            } else if (layout == loose) {
                memory.emplace_back(1 + n * (H * (D + 1) + 1));
                tensors.push_back({memory[i].data.data() + 1, n, H, D, H * (D + 1) + 1, D + 1});
            } else {
                memory.emplace_back(n * H * D);
                tensors.push_back({memory[i].data.data(), n, H, D, H * D, D});
            }
        }
    }
};

struct Results {
    std::vector<double> answer[5];
    bool outside_written, inputs_written;
};

template <class T>
Results run(const Case& c, const Inputs& inputs, Dtype dtype, const char* rung, int threads) {
    const Layout layout = threads == 1 ? packed : threads == 2 ? loose : fused;
    Three<T> in(c, layout), grads(c, layout), rest(c, layout == fused ? packed : layout);  // rest: only out
    Three<T> incoming(c, layout == packed ? packed : loose);                               // only grad_out
    in.tensors[0].fill(inputs.q);
    in.tensors[1].fill(inputs.k);
    in.tensors[2].fill(inputs.v);
    const Tensor<T>&out = rest.tensors[0], &grad_out = incoming.tensors[0];
    grad_out.fill(inputs.grad_out);
    for (int32_t s = 0; s < c.samples; ++s)  // the unused slots of a cache may hold anything
        for (int64_t n = c.cu_seqlens_k[s] + c.seqlens_k[s]; n < c.cu_seqlens_k[s + 1]; ++n)
            for (int64_t h = 0; h < c.heads; ++h)
                for (int64_t d = 0; d < c.head_dim; ++d)
                    for (int i : {1, 2}) put(in.tensors[i].at(n, h, d), NAN);
    const std::vector<Memory<T>> before = in.memory;

    using Lse = typename std::conditional<std::is_same<T, double>::value, double, float>::type;
    std::vector<Lse> lse(c.heads * c.queries(), NAN);
    AttentionProblem p = {};
    p.dtype = dtype;
    p.samples = c.samples, p.heads = c.heads, p.head_dim = c.head_dim, p.queries = c.queries(),
    p.scale = c.scale;
    p.cu_seqlens_q = c.cu_seqlens_q.data(), p.cu_seqlens_k = c.cu_seqlens_k.data();
    p.part_a_lens = c.part_a_lens.data(), p.seqlens_k = c.room ? c.seqlens_k.data() : nullptr;
    p.q = in.tensors[0].view(), p.k = in.tensors[1].view(), p.v = in.tensors[2].view();
    p.out = out.view(), p.lse = lse.data();
    cpu_forward(p, rung, threads);
    p.grad_out = grad_out.view();
    p.grad_q = grads.tensors[0].view(), p.grad_k = grads.tensors[1].view(),
    p.grad_v = grads.tensors[2].view();
    cpu_backward(p, rung, threads);

    Results r;
    for (int a : {0, 2, 3, 4})
        (a ? grads.tensors[a - 2] : out).each([&](const T& x, int64_t) { r.answer[a].push_back(get(x)); });
    r.answer[1].assign(lse.begin(), lse.end());

    // Erase what the kernel should have written; the rest must be unchanged.
    const auto erase = [](T& x, int64_t) { put(x, NAN); };
    out.each(erase);
    grads.tensors[0].each(erase);
    for (int32_t s = 0; s < c.samples; ++s)
        for (int i : {1, 2}) {
            Tensor<T> own = grads.tensors[i];
            own.data += c.cu_seqlens_k[s] * own.row;
            own.rows = c.seqlens_k[s];
            own.each(erase);
        }
    r.outside_written = r.inputs_written = false;
    for (const Three<T>* group : {&grads, &rest})
        for (const Memory<T>& memory : group->memory) r.outside_written |= !memory.untouched();
    for (size_t i = 0; i < before.size(); ++i)
        r.inputs_written |= !same_bits(before[i].data, in.memory[i].data);
    return r;
}

Results run(const Case& c, const Inputs& inputs, Dtype dtype, const char* rung, int threads) {
    if (dtype == Dtype::float32) return run<float>(c, inputs, dtype, rung, threads);
    if (dtype == Dtype::bfloat16) return run<bfloat16>(c, inputs, dtype, rung, threads);
    return run<double>(c, inputs, dtype, rung, threads);
}

// Whether row n of k belongs to a sample's keys (the caller sets the gradients of the others).
std::vector<bool> owned_keys(const Case& c) {
    std::vector<bool> owned(c.keys(), false);
    for (int32_t s = 0; s < c.samples; ++s)
        for (int32_t j = 0; j < c.seqlens_k[s]; ++j) owned[c.cu_seqlens_k[s] + j] = true;
    return owned;
}

// The results of a rung over all cases.
class Verdict {
public:
    explicit Verdict(const char* rung) : rung_(rung) {}
    int checked = 0, misses = 0;
    double worst = 0;  // error, relative to its budget
    std::string where = "nothing";

    void miss(const std::string& kind, const std::string& what) {  // prints the first of each kind
        ++misses;
        if (printed_.insert(kind).second) std::printf("%s: MISS %s\n", rung_, what.c_str());
    }
    void compare(const Case& c, int dtype, const Results& r, const std::string& in) {
        const std::vector<bool> owned = owned_keys(c);
        const int64_t row = int64_t(c.heads) * c.head_dim;
        for (int a = 0; a < 5; ++a) {
            const double budget = c.budget[dtype][a];
            for (size_t i = 0; i < c.answer[a].size(); ++i) {
                if (a > 2 && !owned[i / row]) continue;
                const double got = r.answer[a][i], want = c.answer[a][i],
                             error = got == want ? 0 : std::fabs(got - want);
                if (error > worst * budget)
                    worst = error / budget, where = std::string(ANSWERS[a]) + " of " + in;
                if (error <= budget) continue;  // NaN fails
                char line[200];
                std::snprintf(line, sizeof line, ": number %zu is %.9g, not %.9g (budget %.2g)", i, got, want,
                              budget);
                miss(std::string(ANSWERS[a]) + DTYPES[dtype], std::string(ANSWERS[a]) + " of " + in + line);
                break;
            }
        }
        if (r.outside_written) miss("beside", in + ": wrote beside its tensors");
        if (r.inputs_written) miss("inputs", in + ": wrote to its inputs");
    }

private:
    const char* rung_;
    std::set<std::string> printed_;
};

bool same_bits(const Results& a, const Results& b) {
    bool same = true;
    for (int i = 0; i < 5; ++i) same &= same_bits(a.answer[i], b.answer[i]);
    return same;
}

bool check(const RungInfo& rung, const std::vector<Case>& cases) {
    Verdict verdict(rung.name);
    const bool serves[] = {rung.float32, rung.bfloat16, rung.float64};
    for (const Case& c : cases) {
        const Inputs inputs(c);
        for (int dtype = 0; dtype < 3; ++dtype) {
            if (!serves[dtype] || c.budget[dtype][0] < 0) continue;
            for (int threads : {1, 2, 3}) {
                const std::string in =
                    "'" + c.name + "', " + DTYPES[dtype] + ", " + std::to_string(threads) + " threads";
                const Results r = run(c, inputs, static_cast<Dtype>(dtype), rung.name, threads);
                verdict.compare(c, dtype, r, in);
                if (!same_bits(r, run(c, inputs, static_cast<Dtype>(dtype), rung.name, threads)))
                    verdict.miss("repeat", in + ": another result on the second run");
                ++verdict.checked;
            }
        }
    }
    const auto from = [](auto& to, double value) { put(to, value); };
    const auto to = [](auto x) { return get(x); };
    const char* name = rung.name;
    if (rung.float32 && !gelu_is_right<float>(name, Dtype::float32, 0x1p-23, from, to))
        verdict.miss("gelu", "GELU in float32");
    if (rung.bfloat16 && !gelu_is_right<bfloat16>(name, Dtype::bfloat16, 0x1p-8, from, to))
        verdict.miss("gelu", "GELU in bfloat16");
    if (rung.float64 && !gelu_is_right<double>(name, Dtype::float64, 0x1p-46, from, to))  // of the formula
        verdict.miss("gelu", "GELU in float64");
    if (!verdict.checked) verdict.miss("none", "no case for its dtypes");
    std::printf("%-12s %3d runs of %zu cases, worst error %.2f of its budget (%s): %s\n", rung.name,
                verdict.checked, cases.size(), verdict.worst, verdict.where.c_str(),
                verdict.misses ? "FAILED" : "ok");
    return !verdict.misses;
}

// A rung that is unknown, or lacks the dtype, is refused.
bool refuses(const char* rung, Dtype dtype) {
    AttentionProblem p = {};
    const int32_t zero = 0;
    p.dtype = dtype, p.head_dim = p.heads = 1, p.cu_seqlens_q = p.cu_seqlens_k = &zero;
    try {
        cpu_forward(p, rung, 1);
    } catch (const std::invalid_argument&) {
        return true;
    }
    std::printf("%s: MISS it took %s, which it does not serve\n", rung, DTYPES[static_cast<int>(dtype)]);
    return false;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2) throw std::runtime_error("usage: check_cases cases.bin [rung ...]");
    const std::vector<Case> cases = read_cases(argv[1]);
    const std::vector<std::string> names(argv + 2, argv + argc);
    std::printf("threads by %s; best: %s for float32, %s for bfloat16\n", cpu_threads_by(),
                cpu_best_rung(Dtype::float32), cpu_best_rung(Dtype::bfloat16));
    for (const std::string& name : names) {
        bool usable = false;
        for (const RungInfo& rung : cpu_rungs()) usable |= name == rung.name && rung.supported;
        if (!usable)
            throw std::runtime_error("rung " + name + ": not in this build, or this machine cannot run it");
    }
    bool good = refuses("nonsense", Dtype::float32);
    for (const RungInfo& rung : cpu_rungs()) {
        bool wanted = names.empty();
        for (const std::string& name : names) wanted |= name == rung.name;
        if (!wanted) continue;
        if (!rung.supported) {
            std::printf("%-12s this machine cannot run it\n", rung.name);
            continue;
        }
        good &= check(rung, cases);
        const bool serves[] = {rung.float32, rung.bfloat16, rung.float64};
        for (int d = 0; d < 3; ++d) good &= serves[d] || refuses(rung.name, static_cast<Dtype>(d));
    }
    return good ? 0 : 1;
} catch (const std::exception& error) {
    std::fprintf(stderr, "check_cases: %s\n", error.what());
    return 2;
}
