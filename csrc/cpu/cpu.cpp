// The list of rungs, and how the work of a batch is split into tasks for threads.
//
// A task is one (sample, head). Its rows, keys and gradients are its own, so no thread waits for another and
// nothing is added atomically. A task larger than half of a thread's fair share is split into parts: forward
// by query rows into several parts per thread with equal numbers of pairs, backward by tiles of keys (each
// part owns the gradients of its keys; its share of grad_q goes to a separate buffer, and the shares are
// added in a fixed order). So results repeat at a fixed number of threads, and one long sample still uses
// every core.
#include "cpu.h"

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "parallel.h"
#include "rung.h"

namespace minglm {
namespace {

struct Step {
    const Rung* rung;
    bool supported;
    bool faster = true;  // than the rung before it, on this machine
};

std::vector<Step> steps_of_this_build() {
    std::vector<Step> steps = {{&scalar_rung, true}, {&tiled_rung, true}};
#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#ifndef MINGLM_NO_AVX2
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    steps.push_back({&avx2_rung, avx2});
#endif
#ifndef MINGLM_NO_AVX512
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    steps.push_back({&avx512_rung, avx512});
#ifndef MINGLM_NO_AVX512_BF16
    // subtle: Intel's processors begin one product of pairs in the time of four multiply-adds, so
    // twice the work in one instruction takes twice as long; on AMD's the pairs are 1.6 times as fast
    const bool pairs = __builtin_cpu_supports("avx512bf16");
    steps.push_back({&avx512_bf16_rung, avx512 && pairs, !__builtin_cpu_is("intel")});
#endif
#endif
#elif defined(__aarch64__) && !defined(MINGLM_NO_NEON)
    steps.push_back({&neon_rung, true});
#endif
    return steps;
}

const std::vector<Step>& ladder() {
    static const std::vector<Step> steps = steps_of_this_build();
    return steps;
}

bool serves(const Rung& rung, Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return rung.float32;
        case Dtype::bfloat16: return rung.bfloat16;
        case Dtype::float64: return rung.float64;
        default: return false;  // float16 is only for GPUs
    }
}

const Rung& find_rung(const std::string& name, Dtype dtype) {
    for (const Step& step : ladder()) {
        if (name != step.rung->name) continue;
        if (!step.supported)
            throw std::invalid_argument("rung " + name + ": this machine lacks its instructions");
        if (!serves(*step.rung, dtype))
            throw std::invalid_argument("rung " + name + " does not serve this dtype");
        return *step.rung;
    }
    throw std::invalid_argument("rung " + name + " is not in this build");
}

// Memory for threads. A call's workspace is kept for the next call of the same thread unless it is large.
// Under AddressSanitizer it can be new for each call, of almost exactly the size requested, and full of NaN.
#ifdef MINGLM_EXACT_WORKSPACE
constexpr size_t most_to_keep = 0, page = 64;
constexpr char filling = '\xff';
#else
constexpr size_t most_to_keep = size_t(32) << 20, page = 4096;
#endif

struct Free {
    void operator()(char* data) const { ::operator delete(data, std::align_val_t(4096)); }
};
using Memory = std::unique_ptr<char, Free>;

Memory allocate(size_t bytes) {
    Memory memory(static_cast<char*>(::operator new(bytes, std::align_val_t(4096))));
#ifdef MINGLM_EXACT_WORKSPACE
    std::fill(memory.get(), memory.get() + bytes, filling);
#endif
    return memory;
}

size_t whole_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

class Workspace {
public:
    Workspace(size_t bytes_a_thread, int threads) : stride_(whole_pages(bytes_a_thread)) {
        const size_t bytes = stride_ * threads;
        if (bytes > most_to_keep) {
            own_ = allocate(bytes);
        } else if (bytes > kept().bytes) {
            kept().data = allocate(bytes);
            kept().bytes = bytes;
        }
        data_ = own_ ? own_.get() : kept().data.get();
    }
    char* of(int thread) const { return data_ + stride_ * thread; }

private:
    struct Kept {
        Memory data;
        size_t bytes = 0;
    };
    static Kept& kept() {
        thread_local Kept memory;
        return memory;
    }
    size_t stride_;
    Memory own_;
    char* data_;
};

struct Task {
    int64_t sample, head;
    double work;  // pairs of a row and a key that it sees
};

// The number of pairs of one of the first `rows` rows and a key that it sees; each row counts as one more.
double pairs_before(const Sample& x, int64_t rows) {
    // this many rows see Part A only; rows of Part B see one key more than the row before them
    const double rows_a = std::max<int64_t>(0, std::min(rows, x.part_a_len - x.first_row));
    const double first_b = std::max(x.first_row, x.part_a_len), rows_b = rows - rows_a;
    return rows_a * x.part_a_len + rows_b * (first_b + 1 + x.first_row + rows) / 2 + rows;
}

// The (sample, head)s of the batch, longest first; those that all threads share come before the others.
struct Plan {
    std::vector<Task> together, alone;

    Plan(const AttentionProblem& p, int threads) {
        double all = 0;
        for (int64_t s = 0; s < p.samples; ++s) {
            const Sample x = sample_of(p, s);
            const double work = pairs_before(x, x.len_q) + x.len_k;
            if (work == 0) continue;
            for (int64_t h = 0; h < p.heads; ++h) alone.push_back({s, h, work});
            all += work * p.heads;
        }
        std::stable_sort(alone.begin(), alone.end(),
                         [](const Task& a, const Task& b) { return a.work > b.work; });
        if (threads == 1) return;
        const auto large = [&](const Task& t) { return t.work > all / (2 * threads) && t.work > 4096; };
        const auto end = std::find_if_not(alone.begin(), alone.end(), large);
        together.assign(alone.begin(), end);
        alone.erase(alone.begin(), end);
    }
};

// The part-th of `parts` ranges of rows, in multiples of 48 rows, so that every tile but the last is
// complete.
struct Stretch {
    int64_t begin, end;

    Stretch(int64_t rows, int64_t part, int64_t parts) {
        const int64_t blocks = (rows + 47) / 48;
        begin = std::min(rows, blocks * part / parts * 48);
        end = std::min(rows, blocks * (part + 1) / parts * 48);
    }
};

// The row, a multiple of 48, before which there are about `pairs` pairs of a row and a key that it sees.
int64_t row_after(const Sample& x, double pairs) {
    const auto before = [&](int64_t block) { return pairs_before(x, std::min(x.len_q, block * 48)); };
    int64_t low = 0, high = (x.len_q + 47) / 48;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (before(middle) < pairs)
            low = middle + 1;
        else
            high = middle;
    }
    if (low && pairs - before(low - 1) < before(low) - pairs) --low;
    return std::min(x.len_q, low * 48);
}

// The parts into which backward cuts each of `tasks` long samples. A part has a dQ of its own, so there are
// no more than 8 where other tasks can take the other threads, and no more than tiles of 64 keys.
int backward_parts(const Sample& x, int64_t tasks, int64_t threads) {
    const int64_t tiles = (x.len_k + 63) / 64, enough = std::max<int64_t>(8, (threads + tasks - 1) / tasks);
    return static_cast<int>(std::max<int64_t>(1, std::min({threads, tiles, enough})));
}

template <class Bytes>
size_t most(const AttentionProblem& p, Bytes bytes) {
    size_t largest = 0;
    for (int64_t s = 0; s < p.samples; ++s) largest = std::max(largest, bytes(p, sample_of(p, s)));
    return largest;
}

// What backward keeps of all query rows of a (sample, head): the rows, packed, then one dQ for each part.
struct Kept {
    size_t packed, dq;

    Kept(const Rung& rung, const AttentionProblem& p, const Sample& x)
        : packed(rung.pack ? whole_pages(rung.packed_bytes(p, x)) : 0), dq(rung.dq_bytes(p, x)) {}
    size_t bytes(int parts) const { return packed + dq * parts; }
};

}  // namespace

// Several parts per thread, so that a thread that was held up does not hold up the others; but each part
// packs the keys again, so they have 192 rows on average if that leaves one for every thread.
std::vector<int64_t> cpu_forward_parts(const Sample& x, int64_t threads) {
    const int64_t parts = std::max(threads, std::min(4 * threads, x.len_q / 192));
    const double all = pairs_before(x, x.len_q);
    std::vector<int64_t> ends = {0};
    for (int64_t part = 1; part <= parts; ++part)
        ends.push_back(part < parts ? row_after(x, all * part / parts) : x.len_q);
    return ends;
}

std::vector<RungInfo> cpu_rungs() {
    std::vector<RungInfo> rungs;
    for (const Step& step : ladder()) {
        const Rung& r = *step.rung;
        rungs.push_back({r.name, step.supported, r.float32, r.bfloat16, r.float64});
    }
    return rungs;
}

const char* cpu_best_rung(Dtype dtype) {
    const char* best = nullptr;
    for (const Step& step : ladder())
        if (step.supported && step.faster && serves(*step.rung, dtype)) best = step.rung->name;
    return best;
}

void cpu_forward(const AttentionProblem& p, const char* name, int threads) {
    const Rung& rung = find_rung(name, p.dtype);
    threads = std::max(threads, 1);
    const Plan plan(p, threads);
    const Workspace workspace(most(p, rung.forward_bytes), threads);
    struct Part {
        const Task* task;
        int64_t begin, end;
    };
    std::vector<Part> parts;
    for (const Task& task : plan.together) {
        const std::vector<int64_t> ends = cpu_forward_parts(sample_of(p, task.sample), threads);
        for (size_t i = 1; i < ends.size(); ++i)
            if (ends[i - 1] < ends[i]) parts.push_back({&task, ends[i - 1], ends[i]});
    }
    parallel_for(threads, parts.size(), [&](int64_t i, int thread) {
        const auto& [task, begin, end] = parts[i];
        rung.forward(p, sample_of(p, task->sample), task->head, begin, end, workspace.of(thread));
    });
    parallel_for(threads, plan.alone.size(), [&](int64_t i, int thread) {
        const Task& task = plan.alone[i];
        const Sample x = sample_of(p, task.sample);
        rung.forward(p, x, task.head, 0, x.len_q, workspace.of(thread));
    });
}

void cpu_backward(const AttentionProblem& p, const char* name, int threads) {
    const Rung& rung = find_rung(name, p.dtype);
    threads = std::max(threads, 1);
    const Plan plan(p, threads);
    size_t kept = 0;  // by a thread that has a sample to itself
    for (const Task& task : plan.alone)
        kept = std::max(kept, whole_pages(Kept(rung, p, sample_of(p, task.sample)).bytes(1)));
    const Workspace workspace(kept + most(p, rung.backward_bytes), threads);
    // As many of the shared tasks at a time as give every thread a part.
    for (auto next = plan.together.begin(); next != plan.together.end();) {
        struct Shared {
            const Task* task;
            Sample x;
            int parts;
            Kept kept;
            Memory memory;

            char* dq(int part) const { return memory.get() + kept.bytes(part); }
        };
        std::vector<Shared> wave;
        std::vector<std::pair<const Shared*, int>> parts;
        for (int begun = 0; begun < threads && next != plan.together.end(); ++next) {
            const Sample x = sample_of(p, next->sample);
            const int own = backward_parts(x, plan.together.size(), threads);
            const Kept kept(rung, p, x);
            wave.push_back({&*next, x, own, kept, allocate(kept.bytes(own))});
            begun += own;
        }
        for (const Shared& s : wave)
            for (int part = 0; part < s.parts; ++part) parts.push_back({&s, part});
        if (rung.pack)
            parallel_for(threads, parts.size(), [&](int64_t i, int) {
                const auto& [s, part] = parts[i];
                const Stretch rows(s->x.len_q, part, s->parts);
                rung.pack(p, s->x, s->task->head, rows.begin, rows.end, s->memory.get());
            });
        parallel_for(threads, parts.size(), [&](int64_t i, int thread) {
            const auto& [s, part] = parts[i];
            rung.backward(p, s->x, s->task->head, part, s->parts, s->memory.get(), s->dq(part),
                          workspace.of(thread));
        });
        parallel_for(threads, parts.size(), [&](int64_t i, int) {
            const auto& [s, part] = parts[i];
            const Stretch rows(s->x.len_q, part, s->parts);
            rung.finish(p, s->x, s->task->head, rows.begin, rows.end, s->dq(0), s->parts);
        });
    }
    parallel_for(threads, plan.alone.size(), [&](int64_t i, int thread) {
        const Task& task = plan.alone[i];
        const Sample x = sample_of(p, task.sample);
        char* packed = workspace.of(thread);
        char* dq = packed + Kept(rung, p, x).bytes(0);
        if (rung.pack) rung.pack(p, x, task.head, 0, x.len_q, packed);
        rung.backward(p, x, task.head, 0, 1, packed, dq, packed + kept);
        rung.finish(p, x, task.head, 0, x.len_q, dq, 1);
    });
}

void cpu_gelu(const GeluProblem& p, const char* name, int threads) {
    const Rung& rung = find_rung(name, p.dtype);
    const int64_t chunk = 16384;  // numbers, which the second-level cache holds
    parallel_for(std::max(threads, 1), (p.n + chunk - 1) / chunk,
                 [&](int64_t i, int) { rung.gelu(p, i * chunk, std::min(p.n, (i + 1) * chunk)); });
}

}  // namespace minglm
