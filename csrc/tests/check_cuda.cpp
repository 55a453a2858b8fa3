// Checks the CUDA kernels (csrc/cuda) on a CPU, run by csrc/cuda_on_cpu, against float64. Needs neither torch
// nor Python, so it runs under the sanitizers, and quickly for each mutant of .ci/mutants.
//
//   check_cuda [--case TEXT] [--schedule ORDER[:SEED]] [--seeds N] [--first N] [--small] [--stop]
//              [--threads N] [--list] [--traffic] [--sm 90]
//
// A case runs forward and backward under several schedules: in order, in reverse, and N seeds of random
// priorities (pct), from --first on. --small: a few cases, for tools that slow the program down. --stop: stop
// at the first miss. --sm 90: forward is the kernel for Hopper, with the cases that it serves. Every schedule
// must give the same bits. A miss is printed with the --case and --schedule that reproduce it.
//
// Row i of a sample attends strongly to keys i and i + 1, so that a mask that is wrong by one key shows at
// any precision. The error of an answer may be twice that of plain loops that sum in float32 and round every
// intermediate result to the dtype (as PyTorch does without a fused kernel), or 4 eps of the largest entry.
// Memory that does not belong to a tensor (gaps, unused slots of a cache) is NaN and must not change, and
// every tensor ends where its memory ends.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cuda/hopper.h"
#include "../cuda/launch.h"
#include "../cuda_on_cpu/schedule.h"
#include "../mask.h"

using namespace minglm;

namespace {

// ---- number formats ---------------------------------------------------------------------------------------

struct Format {
    const char* name;
    Dtype dtype;
    int bytes, digits, lowest;  // digits of the significand, and the exponent of the smallest normal number

    double eps() const { return std::ldexp(1, 1 - digits); }

    double round(double x) const {  // rounds to nearest, ties to even
        if (!std::isfinite(x) || x == 0) return x;
        const int exponent = std::max(std::ilogb(x), lowest);
        return std::ldexp(std::nearbyint(std::ldexp(x, digits - 1 - exponent)), exponent - digits + 1);
    }
    void put(unsigned char* to, double x) const {
        if (bytes == 4) {
            const float single = static_cast<float>(x);
            std::memcpy(to, &single, 4);
            return;
        }
        const int fraction = digits - 1, bias = 1 - lowest;
        uint16_t bits = std::signbit(x) ? 0x8000 : 0;
        if (std::isnan(x)) {
            bits |= 0x7fff;
        } else if ((x = std::fabs(round(x))) != 0) {
            const int exponent = std::max(std::ilogb(x), lowest);
            // with the leading 1
            const auto whole = static_cast<uint16_t>(std::ldexp(x, fraction - exponent));
            bits |= static_cast<uint16_t>(((exponent + bias - 1) << fraction) + whole);
        }
        std::memcpy(to, &bits, 2);
    }
    double get(const unsigned char* from) const {
        if (bytes == 4) {
            float single;
            std::memcpy(&single, from, 4);
            return single;
        }
        uint16_t bits;
        std::memcpy(&bits, from, 2);
        const int fraction = digits - 1, bias = 1 - lowest, exponent = (bits & 0x7fff) >> fraction;
        const int whole = bits & ((1 << fraction) - 1);
        double x = exponent == 0x7fff >> fraction ? (whole ? NAN : INFINITY)
                   : exponent ? std::ldexp(whole + (1 << fraction), exponent - bias - fraction)
                              : std::ldexp(whole, lowest - fraction);
        return bits & 0x8000 ? -x : x;
    }
};

const Format FORMATS[] = {{"float32", Dtype::float32, 4, 24, -126},
                          {"bfloat16", Dtype::bfloat16, 2, 8, -126},
                          {"float16", Dtype::float16, 2, 11, -14}};

// ---- cases ------------------------------------------------------------------------------------------------

struct Lengths {
    int32_t q, k, part_a, room = 0;  // room: unused slots of a cache after the keys
};

struct Case {
    std::string name;
    std::vector<Lengths> samples;
    int64_t heads = 2, head_dim = 64;
    const Format* format = FORMATS;
    double scale = 0;  // 0: 1 / sqrt(head_dim); NAN: 0
    int64_t splits = 1;  // blocks that share the keys of each row
    bool one_kernel = false;  // backward by the kernel for short samples
    bool fused = false;       // q, k, v and their gradients interleaved; heads outside rows if counts differ

    double factor() const {
        return std::isnan(scale) ? 0 : scale == 0 ? 1 / std::sqrt(static_cast<double>(head_dim)) : scale;
    }
    int64_t queries() const {
        int64_t n = 0;
        for (const Lengths& s : samples) n += s.q;
        return n;
    }
    int64_t keys() const {
        int64_t n = 0;
        for (const Lengths& s : samples) n += s.k + s.room;
        return n;
    }
};

std::vector<Lengths> square(const std::vector<std::pair<int32_t, int32_t>>& samples) {
    std::vector<Lengths> all;
    for (const auto& [length, part_a] : samples) all.push_back({length, length, part_a});
    return all;
}

// More than 32 samples: a block searches for its own in two rounds. Most are empty.
std::vector<Lengths> many_samples() {
    std::vector<Lengths> all(70);
    for (int32_t s : {0, 1, 2, 3, 30, 31, 32, 33, 63, 68, 69}) all[s] = {s % 5 + 1, s % 5 + 1, s % 3};
    all[40] = {65, 65, 20};
    return all;
}

std::vector<Case> all_cases(bool small, int sm) {
    std::vector<std::pair<std::string, std::vector<Lengths>>> kinds = {
        {"small", square({{130, 70}, {20, 3}})},
        {"small suffix", {{17, 80, 33}, {3, 2, 1}, {16, 0, 0}}},
        {"small few", {{3, 1, 0}, {18, 300, 40}, {2, 0, 0}}},
        {"few rows", {{3, 1, 0}, {20, 400, 70}, {2, 0, 0}, {1, 520, 100, 9}, {16, 129, 0}, {1, 128, 0}}},
        {"short", square({{1, 0}, {1, 1}, {15, 0}, {16, 16}, {17, 5}, {17, 17}, {0, 0}, {2, 1}})},
        {"one tile", square({{63, 20}, {64, 0}, {65, 64}, {65, 1}})},
        {"77", square({{77, 0}, {77, 1}, {77, 38}, {77, 77}})},
        {"150", square({{150, 0}, {150, 75}, {150, 150}})},
        {"300", square({{300, 0}, {300, 130}, {300, 299}})},
        {"suffix", {{5, 77, 60}, {33, 80, 0}, {17, 65, 65}, {0, 16, 3}, {64, 70, 10}}},
        {"long suffix", {{100, 300, 210}, {190, 200, 0}, {64, 150, 75}}},
        {"more rows than keys", {{20, 10, 5}, {20, 10, 0}, {16, 0, 0}, {70, 66, 30}}},
        {"one query", {{1, 77, 40}, {1, 300, 0}, {1, 1, 1}, {1, 64, 64}, {1, 65, 10}}},
        {"cache", {{1, 30, 10, 34}, {3, 65, 65, 7}, {2, 0, 0, 5}, {1, 64, 1, 64}, {5, 5, 0, 1}}},
        {"nothing", {}},
        {"empty samples", {{0, 0, 0}, {0, 5, 2}, {0, 0, 0}}},
        {"many samples", many_samples()},
    };
    // more tiles than the ring has stages, and a group of 64 rows that sees nothing
    if (sm == 90) kinds.push_back({"small ring", {{66, 200, 100}, {130, 900, 700}, {100, 10, 0}}});
    std::vector<Case> cases;
    for (const Format& format : FORMATS)
        for (int64_t head_dim : {64, 32, 96, 128})
            for (size_t i = 0; i < kinds.size(); ++i) {
                Case c{kinds[i].first, kinds[i].second};
                const bool is_small = kinds[i].first.find("small") == 0;
                // 96 is the smallest width whose forward pass has one place for each tile
                const bool is_wide = head_dim == 96 && format.dtype == Dtype::bfloat16 && i == 0;
                if (small && (!is_small || (head_dim > 64 && !is_wide))) continue;
                if (sm == 90 && (format.bytes != 2 || head_dim % 64)) continue;
                c.format = &format, c.head_dim = head_dim;
                c.heads = is_small || c.queries() > 400 ? 1 : 1 + (i + head_dim / 32) % 3;
                c.fused = (i + head_dim / 32) % 2;
                c.name += std::string(", ") + format.name + ", " + std::to_string(head_dim);
                cases.push_back(c);
                if ((kinds[i].first == "small few" || kinds[i].first == "few rows") && format.bytes == 2) {
                    Case shared = c;
                    shared.splits = kinds[i].first == "small few" ? 2 : 3;
                    shared.name += ", " + std::to_string(shared.splits) + " splits";
                    cases.push_back(shared);
                }
                if (sm != 90 && head_dim == 64 && format.bytes == 2 &&
                    (is_small || kinds[i].first == "one tile" || kinds[i].first == "300" ||
                     kinds[i].first == "suffix" || kinds[i].first == "cache" ||
                     kinds[i].first == "many samples" || kinds[i].first == "more rows than keys")) {
                    Case whole = c;
                    whole.one_kernel = true;
                    whole.name += ", one kernel";
                    cases.push_back(whole);
                }
                if ((kinds[i].first == "77" || kinds[i].first == "more rows than keys" ||
                     kinds[i].first == "few rows") && head_dim == 64)
                    for (double scale : {-0.125, 1.0, 6.0, static_cast<double>(NAN)}) {
                        if (sm == 90 && !(scale > 0)) continue;
                        Case scaled = c;
                        scaled.scale = scale;
                        scaled.name += ", scale " + std::to_string(scaled.factor()).substr(0, 6);
                        cases.push_back(scaled);
                    }
            }
    return cases;
}

// ---- the truth --------------------------------------------------------------------------------------------

struct Numbers {
    std::vector<double> q, k, v, grad_out;  // (rows, heads, head_dim)
};

Numbers inputs_of(const Case& c) {
    uint64_t state = 12345 + c.samples.size();
    auto next = [&] {  // splitmix64, cut to the 8 bits that every dtype can represent
        uint64_t x = state += 0x9E3779B97F4A7C15u;
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
        x = (x ^ x >> 27) * 0x94D049BB133111EBu;
        return (static_cast<double>((x ^ x >> 31) >> 56) - 128) / 64;
    };
    const int64_t row = c.heads * c.head_dim;
    Numbers x;
    for (auto [to, n] :
         {std::pair(&x.q, c.queries()), {&x.k, c.keys()}, {&x.v, c.keys()}, {&x.grad_out, c.queries()}})
        for (int64_t i = 0; i < n * row; ++i) to->push_back(next());
    int64_t q = 0, k = 0;
    for (const Lengths& s : c.samples) {
        for (int64_t r = 0; r < s.q; ++r)
            // row i equals the even d of key i and the odd d of key i + 1
            for (int64_t half = 0; half < 2; ++half) {
                const int64_t key = s.k - s.q + r + half;
                if (key < 0 || key >= s.k) continue;
                for (int64_t e = 0; e < row; ++e)
                    if (e % c.head_dim % 2 == half) x.k[(k + key) * row + e] = x.q[(q + r) * row + e];
            }
        q += s.q, k += s.k + s.room;
    }
    return x;
}

constexpr int ANSWERS = 5;
const char* const NAMES[ANSWERS] = {"out", "lse", "dq", "dk", "dv"};

struct Results {
    std::vector<double> of[ANSWERS];  // out (Nq, H, D), lse (H, Nq), dq, dk, dv
};

// The formulas of attention.h as loops that sum in Sum; round(x) is applied to whatever an implementation
// without a fused kernel would store. In double and without rounding this is the truth; in float and rounded
// to the dtype, the error of ordinary code.
template <class Sum, class Round>
Results solve(const Case& c, const Numbers& x, const Round& round) {
    const int64_t H = c.heads, D = c.head_dim, row = H * D;
    const Sum scale = static_cast<Sum>(c.factor());
    const std::vector<Sum> q(x.q.begin(), x.q.end()), k(x.k.begin(), x.k.end()), v(x.v.begin(), x.v.end());
    const std::vector<Sum> grad(x.grad_out.begin(), x.grad_out.end());
    std::vector<Sum> out(q.size()), lse(c.queries() * H), dq(q.size()), dk(k.size()), dv(k.size()), scores, p,
        dp;
    int64_t first_q = 0, first_k = 0;
    for (const Lengths& s : c.samples) {
        for (int64_t h = 0; h < H; ++h)
            for (int64_t n = 0; n < s.q; ++n) {
                const int64_t at = (first_q + n) * row + h * D, k0 = first_k * row + h * D;
                const int64_t seen = std::max<int64_t>(0, keys_of_row(s.k - s.q + n, s.part_a, s.k));
                scores.assign(seen, 0), p.assign(seen, 0), dp.assign(seen, 0);
                Sum top = -INFINITY, sum = 0, delta = 0;
                for (int64_t j = 0; j < seen; ++j) {
                    for (int64_t d = 0; d < D; ++d) scores[j] += q[at + d] * k[k0 + j * row + d];
                    scores[j] = round(scale * round(scores[j]));
                    top = std::max(top, scores[j]);
                }
                for (const Sum y : scores) sum += std::exp(y - top);
                const Sum total = lse[h * c.queries() + first_q + n] = seen ? top + std::log(sum) : -INFINITY;
                for (int64_t j = 0; j < seen; ++j) p[j] = round(std::exp(scores[j] - top) / sum);
                for (int64_t d = 0; d < D; ++d) {
                    Sum o = 0;
                    for (int64_t j = 0; j < seen; ++j) o += p[j] * v[k0 + j * row + d];
                    out[at + d] = round(o);
                }
                for (int64_t j = 0; j < seen; ++j) {
                    for (int64_t d = 0; d < D; ++d) dp[j] += grad[at + d] * v[k0 + j * row + d];
                    dp[j] = round(dp[j]);
                    p[j] = round(std::exp(scores[j] - total));
                }
                for (int64_t d = 0; d < D; ++d) delta += grad[at + d] * out[at + d];
                for (int64_t j = 0; j < seen; ++j) {
                    const Sum ds = round(scale * round(p[j] * (dp[j] - delta)));
                    for (int64_t d = 0; d < D; ++d) {
                        dq[at + d] += ds * k[k0 + j * row + d];
                        dk[k0 + j * row + d] += ds * q[at + d];
                        dv[k0 + j * row + d] += p[j] * grad[at + d];
                    }
                }
            }
        first_q += s.q, first_k += s.k + s.room;
    }
    Results r;
    int a = 0;
    for (const std::vector<Sum>* of : {&out, &lse, &dq, &dk, &dv}) {
        for (const Sum y : *of) r.of[a].push_back(a < 2 ? y : round(y));
        ++a;
    }
    return r;
}

// ---- a run of the kernels ---------------------------------------------------------------------------------

// Memory of exactly the size needed, all NaN, for one or three tensors; aligned as torch aligns.
class Memory {
public:
    Memory(const Format& format, int64_t numbers) : format_(format), bytes_(numbers * format.bytes) {
        if (posix_memalign(reinterpret_cast<void**>(&data_), 64, std::max<size_t>(bytes_, 1)))
            throw std::bad_alloc();
        std::memset(data_, 0xff, bytes_);
    }
    Memory(const Memory&) = delete;
    ~Memory() { std::free(data_); }
    unsigned char* at(int64_t number) const { return data_ + number * format_.bytes; }
    std::vector<unsigned char> copy() const { return {data_, data_ + bytes_}; }

private:
    const Format& format_;
    size_t bytes_;
    unsigned char* data_ = nullptr;
};

// One tensor (rows, heads, head_dim) in a Memory.
struct Tensor {
    const Memory* memory;
    int64_t offset, rows, heads, dim, row, head;

    Rows view() const { return {memory->at(offset), row, head}; }
    template <class Each>
    void each(const Each& each) const {  // each(address, its number in the packed order)
        for (int64_t n = 0, i = 0; n < rows; ++n)
            for (int64_t h = 0; h < heads; ++h)
                for (int64_t d = 0; d < dim; ++d) each(memory->at(offset + n * row + h * head + d), i++);
    }
};

struct Three {  // q, k, v or their gradients
    std::vector<std::unique_ptr<Memory>> memory;
    Tensor tensors[3];

    Three(const Case& c) {
        const int64_t H = c.heads, D = c.head_dim, counts[] = {c.queries(), c.keys(), c.keys()};
        const bool interleaved = c.fused && c.queries() == c.keys();
        if (interleaved) memory.push_back(std::make_unique<Memory>(*c.format, counts[0] * 3 * H * D));
        for (int i = 0; i < 3; ++i) {
            const int64_t n = counts[i];
            if (!interleaved) memory.push_back(std::make_unique<Memory>(*c.format, n * H * D));
            tensors[i] = interleaved ? Tensor{memory[0].get(), i * H * D, n, H, D, 3 * H * D, D}
                         : c.fused   ? Tensor{memory[i].get(), 0, n, H, D, D, n * D}
                                     : Tensor{memory[i].get(), 0, n, H, D, H * D, D};
        }
    }
};

Results run(const Case& c, const Numbers& x, const std::string& schedule, int threads, int sm,
            std::string& wrong) {
    const Format& f = *c.format;
    Three in(c), grads(c), results(c);  // of results only the first tensor is used: out
    const Memory grad_memory(f, c.queries() * c.heads * c.head_dim);
    const Tensor grad_out{&grad_memory,         0,         c.queries(), c.heads, c.head_dim,
                          c.heads * c.head_dim, c.head_dim};
    const auto fill = [&](const Tensor& t, const std::vector<double>& from) {
        t.each([&](unsigned char* to, int64_t i) { f.put(to, from[i]); });
    };
    fill(in.tensors[0], x.q), fill(in.tensors[1], x.k), fill(in.tensors[2], x.v), fill(grad_out, x.grad_out);

    std::vector<int32_t> cu_q = {0}, cu_k = {0}, part_a, used;
    const int64_t row = c.heads * c.head_dim;
    std::vector<bool> owned(c.keys());
    for (const Lengths& s : c.samples) {
        for (int32_t j = 0; j < s.k; ++j) owned[cu_k.back() + j] = true;
        cu_q.push_back(cu_q.back() + s.q), cu_k.push_back(cu_k.back() + s.k + s.room);
        part_a.push_back(s.part_a), used.push_back(s.k);
    }
    const bool cache =
        std::any_of(c.samples.begin(), c.samples.end(), [](const Lengths& s) { return s.room; });
    for (int i : {1, 2})  // the unused slots of a cache may hold anything
        in.tensors[i].each([&](unsigned char* to, int64_t n) {
            if (!owned[n / row]) f.put(to, NAN);
        });

    std::vector<float> lse(c.queries() * c.heads, NAN), delta(c.queries() * c.heads, NAN);
    AttentionProblem p = {};
    p.dtype = f.dtype, p.samples = static_cast<int64_t>(c.samples.size());
    p.heads = c.heads, p.head_dim = c.head_dim, p.queries = c.queries(), p.keys = c.keys(),
    p.scale = c.factor();
    p.cu_seqlens_q = cu_q.data(), p.cu_seqlens_k = cu_k.data(), p.part_a_lens = part_a.data();
    p.seqlens_k = cache ? used.data() : nullptr;
    p.q = in.tensors[0].view(), p.k = in.tensors[1].view(), p.v = in.tensors[2].view();
    p.out = results.tensors[0].view(), p.lse = lse.data();
    p.grad_out = grad_out.view(), p.delta = delta.data();
    std::vector<float> parts(emulated::parts_size(p, static_cast<int>(c.splits)), NAN);
    for (const Lengths& s : c.samples)
        if (c.one_kernel) p.longest = std::max<int64_t>(p.longest, s.q);
    p.splits = c.splits, p.parts = c.splits > 1 ? parts.data() : nullptr;
    p.grad_q = grads.tensors[0].view(), p.grad_k = grads.tensors[1].view(),
    p.grad_v = grads.tensors[2].view();
    std::vector<std::vector<unsigned char>> before;
    for (const auto& memory : in.memory) before.push_back(memory->copy());

    emulated::set_schedule(emulated::parse_schedule(schedule, threads));
    wrong = sm == 90 ? emulated::hopper_refusal(p, sm) : emulated::refusal(p, sm);
    if (wrong.empty())
        wrong = sm == 90 ? emulated::hopper_forward(p, nullptr) : emulated::forward(p, nullptr);
    if (wrong.empty()) wrong = emulated::backward(p, nullptr);
    if (!wrong.empty() && !emulated::last_report().empty()) wrong = emulated::last_report();

    Results r;
    for (int a : {0, 2, 3, 4})
        (a ? grads.tensors[a - 2] : results.tensors[0]).each([&](unsigned char* from, int64_t i) {
            if (a > 2 && !owned[i / row])  // not the kernel's to write
                r.of[a].push_back(std::isnan(f.get(from)) ? 0 : INFINITY);
            else
                r.of[a].push_back(f.get(from)), f.put(from, NAN);
        });
    r.of[1].assign(lse.begin(), lse.end());
    for (size_t i = 0; i < before.size(); ++i)
        if (wrong.empty() && before[i] != in.memory[i]->copy()) wrong = "the kernels wrote to their inputs";
    for (const Three* group : {&grads, &results})
        for (const auto& memory : group->memory)
            for (const unsigned char byte : memory->copy())  // NaN as put() writes it, or unchanged
                if (wrong.empty() && byte != 0xff && byte != 0x7f && byte != 0xc0 && byte != 0x00)
                    wrong = "the kernels wrote beside their outputs";
    return r;
}

// ---- verdicts ---------------------------------------------------------------------------------------------

std::string compare(const Case& c, const Results& got, const Results& truth, const Results& ordinary,
                    double& worst) {
    for (int a = 0; a < ANSWERS; ++a) {
        double largest = 0, fair = 0;
        for (size_t i = 0; i < truth.of[a].size(); ++i) {
            if (!std::isfinite(truth.of[a][i])) continue;
            largest = std::max(largest, std::fabs(truth.of[a][i]));
            fair = std::max(fair, std::fabs(truth.of[a][i] - ordinary.of[a][i]));
        }
        // the log-sum-exp is computed and stored in float32, whatever the dtype of the inputs
        const double eps = a == 1 ? FORMATS[0].eps() : c.format->eps();
        const double budget =
            a == 1 ? 16 * eps * std::max(largest, 1.0) : std::max(2 * fair, 4 * eps * largest);
        for (size_t i = 0; i < truth.of[a].size(); ++i) {
            const double y = got.of[a][i], want = truth.of[a][i], error = y == want ? 0 : std::fabs(y - want);
            if (error <= budget) {  // NaN fails
                if (budget > 0) worst = std::max(worst, error / budget);
                continue;
            }
            char line[160];
            std::snprintf(line, sizeof line, "%s: number %zu is %.9g, not %.9g (budget %.2g)", NAMES[a], i, y,
                          want, budget);
            return line;
        }
    }
    return "";
}

bool same_bits(const Results& a, const Results& b) {
    for (int i = 0; i < ANSWERS; ++i)
        if (a.of[i].size() != b.of[i].size() ||
            (a.of[i].size() && std::memcmp(a.of[i].data(), b.of[i].data(), a.of[i].size() * sizeof(double))))
            return false;
    return true;
}

std::string value_after(int argc, char** argv, int& i) {
    if (i + 1 >= argc) throw std::invalid_argument(std::string(argv[i]) + ": a value is missing");
    return argv[++i];
}

}  // namespace

int main(int argc, char** argv) try {
    std::string wanted, only;
    int seeds = 2, first = 1, threads = 1, sm = 80;
    bool small = false, stop = false, list = false, traffic = false;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--case") wanted = value_after(argc, argv, i);
        else if (option == "--schedule") only = value_after(argc, argv, i);
        else if (option == "--seeds") seeds = std::stoi(value_after(argc, argv, i));
        else if (option == "--first") first = std::stoi(value_after(argc, argv, i));
        else if (option == "--threads") threads = std::stoi(value_after(argc, argv, i));
        else if (option == "--sm") sm = std::stoi(value_after(argc, argv, i));
        else if (option == "--small") small = true;
        else if (option == "--stop") stop = true;
        else if (option == "--list") list = true;
        else if (option == "--traffic") traffic = true;
        else throw std::invalid_argument(option + ": unknown; see the head of check_cuda.cpp");
    }
    std::vector<std::string> schedules = {"in-order", "reverse"};
    for (int seed = first; seed < first + seeds; ++seed) schedules.push_back("pct:" + std::to_string(seed));
    if (!only.empty()) schedules = {only};

    int checked = 0, missed = 0;
    double worst = 0;
    for (const Case& c : all_cases(small, sm)) {
        if (c.name.find(wanted) == std::string::npos || (stop && missed)) continue;
        if (list) {
            std::printf("%s\n", c.name.c_str());
            continue;
        }
        const Numbers x = inputs_of(c);
        const Results truth = solve<double>(c, x, [](double y) { return y; });
        const Results ordinary =
            solve<float>(c, x, [&](float y) { return static_cast<float>(c.format->round(y)); });
        Results before;
        emulated::count_traffic(traffic);
        for (const std::string& schedule : schedules) {
            std::string wrong;
            const Results got = run(c, x, schedule, threads, sm, wrong);
            if (wrong.empty()) wrong = compare(c, got, truth, ordinary, worst);
            if (wrong.empty() && &schedule != &schedules[0] && !same_bits(got, before))
                wrong = "not the bits of " + schedules[0];
            ++checked;
            if (!wrong.empty()) {
                ++missed;
                std::printf("MISS --case '%s' --schedule %s\n     %s\n", c.name.c_str(), schedule.c_str(),
                            wrong.c_str());
                std::fflush(stdout);
                break;
            }
            if (&schedule == &schedules[0]) before = got;
        }
        if (traffic) {
            const emulated::Traffic t = emulated::traffic();
            std::printf(
                "%-32s matrices: %llu phases, %llu conflicts; shared: %llu phases, %llu conflicts; "
                "global: %.1f %%\n",
                c.name.c_str(), (unsigned long long)t.matrix_phases, (unsigned long long)t.matrix_conflicts,
                (unsigned long long)t.shared_phases, (unsigned long long)t.shared_conflicts,
                t.global_sectors ? 100.0 * t.global_bytes / (32.0 * t.global_sectors) : 100.0);
        }
    }
    if (list) return 0;
    if (!checked) throw std::invalid_argument("--case " + wanted + ": no such case; --list names them");
    std::printf("%d runs, worst error %.2f of its budget: %s\n", checked, worst, missed ? "FAILED" : "ok");
    return missed ? 1 : 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "check_cuda: %s\n", error.what());
    return 2;
}
