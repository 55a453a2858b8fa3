// Checks csrc/cuda_on_cpu, which runs CUDA kernels on a CPU, with small kernels: correct ones, whose results
// must be right under every schedule, and wrong ones, which must be reported at the right line. Needs neither
// torch nor Python.
//
//   check_simt                  all checks
//   check_simt race NAME        a kernel with a race (barrier, warp, blocks or ring), for ThreadSanitizer
//   check_simt norace           the same kernels without the race
//   check_simt overrun NAME     a kernel one element out of bounds: shared or global, for AddressSanitizer
#include <algorithm>
#include <bitset>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cuda/hopper_device.h"

using namespace minglm;
using namespace minglm::emulated;

namespace {

const uint32_t ALL = 0xffffffffu;
const std::vector<std::string> SCHEDULES = {"in-order", "reverse", "pct:1", "pct:2", "pct:3"};
int misses = 0;

void miss(const std::string& what) {
    if (++misses <= 20) std::printf("MISS %s\n", what.c_str());
}
void check(bool good, const std::string& what) {
    if (!good) miss(what);
}

template <class Kernel, class... Args>
cudaError_t run(const std::string& schedule, int os_threads, Kernel kernel, dim3 grid, int threads,
                size_t shared, Args... args) {
    set_schedule(parse_schedule(schedule, os_threads));
    return launch(kernel, grid, threads, shared, nullptr, args...);
}

// Runs a kernel that must succeed.
template <class Kernel, class... Args>
void run_well(const std::string& schedule, int os_threads, Kernel kernel, dim3 grid, int threads,
              size_t shared, Args... args) {
    const cudaError_t error = run(schedule, os_threads, kernel, grid, threads, shared, args...);
    check(error == cudaSuccess && last_report().empty(), "a right kernel is reported: " + last_report());
}

struct Random {
    uint64_t state = 1;
    uint64_t operator()() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return state >> 33;
    }
};

// ---- number formats ---------------------------------------------------------------------------------------

// A format with an exponent of e bits and a fraction of f bits, spelled out in double.
double value_of(uint16_t bits, int e, int f) {
    const int exponent = bits >> f & ((1 << e) - 1), fraction = bits & ((1 << f) - 1),
              bias = (1 << (e - 1)) - 1;
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << e) - 1) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(fraction + (1 << f), exponent - bias - f)
                            : std::ldexp(fraction, 1 - bias - f));
}

// The nearest number of the format, by trial: `guess` and its two neighbours among the bit patterns; ties to
// even.
bool is_nearest(uint16_t got, double x, int e, int f) {
    if (std::isnan(x)) return got == 0x7fff;
    if (std::signbit(x) != bool(got >> 15)) return false;
    // what would come after the largest number takes part in rounding, as infinity
    const auto value = [e, f](int magnitude) {
        const int infinity = ((1 << e) - 1) << f;
        return magnitude == infinity ? std::ldexp(1, 1 << (e - 1))
                                     : value_of(static_cast<uint16_t>(magnitude), e, f);
    };
    const int magnitude = got & 0x7fff, infinity = ((1 << e) - 1) << f;
    if (magnitude > infinity) return false;
    const double target = std::fmin(std::fabs(x), std::ldexp(1, 1 << (e - 1))),
                 error = std::fabs(value(magnitude) - target);
    for (int other : {magnitude - 1, magnitude + 1}) {
        if (other < 0 || other > infinity) continue;
        const double error_of_other = std::fabs(value(other) - target);
        if (error_of_other < error || (error_of_other == error && magnitude % 2 != 0)) return false;
    }
    return true;
}

template <class T>
void check_format(const char* name, int e, int f) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const double want = value_of(static_cast<uint16_t>(bits), e, f);
        const float2 got = unpack<T>(bits | 0x3c000000u), upper = unpack<T>(bits << 16);
        check(std::isnan(want) ? std::isnan(got.x) && std::isnan(upper.y)
                               : got.x == want && upper.y == want && upper.x == 0,
              std::string(name) + ": unpack of " + std::to_string(bits));
        const uint32_t again = pack<T>(got.x, 1.0f) & 0xffff, again_upper = pack<T>(1.0f, upper.y) >> 16;
        check(std::isnan(want) ? again == 0x7fff && again_upper == 0x7fff
                               : again == bits && again_upper == bits,
              std::string(name) + ": there and back, " + std::to_string(bits));
    }
    const auto check_pack = [&](float x) {
        check(is_nearest(static_cast<uint16_t>(pack<T>(x, 0)), x, e, f),
              std::string(name) + ": pack of " + std::to_string(x));
    };
    Random random;
    for (int i = 0; i < 400000; ++i) {
        uint32_t bits = static_cast<uint32_t>(random() << 1 ^ random());
        if (i % 4 == 1)
            bits = (bits & 0x8007ffffu) | (95 + bits % 50) << 23;  // exponents around those of f16
        if (i % 4 == 2) bits &= 0xffff8000u;                                           // ties of bf16
        if (i % 4 == 3) bits = (bits & 0x807ff000u) | (100 + (bits >> 5) % 45) << 23;  // ties of f16
        const float x = __uint_as_float(bits);
        check_pack(x);
    }
    for (float x :
         {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 65504.0f, 65519.99f, 65520.0f, -65536.0f, 0x1p-24f, 0x1p-25f,
          0x1.8p-24f, 0x1.000002p-25f, 0x1.ff8p-15f, 0x1.ffcp-15f, 3.4e38f, 1e-45f, 1.00390625f, 1.01171875f})
        check_pack(x);
}

void check_formats() {
    check_format<bf16>("bf16", 8, 7);
    check_format<f16>("f16", 5, 10);
    for (float x = -130; x < 130; x += 0.37f) {
        const double want = std::exp2(static_cast<double>(x));
        const bool flushed = want < 0x1p-126 && exp2_fast(x) == 0,
                   infinite = want > 0x1.fffffep127 && exp2_fast(x) == INFINITY;
        check(flushed || infinite || std::fabs(exp2_fast(x) / want - 1) < 3e-7,
              "exp2_fast of " + std::to_string(x));
    }
    check(exp2_fast(-INFINITY) == 0 && exp2_fast(INFINITY) == INFINITY && std::isnan(exp2_fast(NAN)),
          "exp2_fast of inf, NaN");
    check(sizeof(uint4) == 16 && alignof(uint4) == 16 && alignof(float4) == 16 && alignof(float2) == 8,
          "sizes of vectors");
}

// ---- matrices: the tables of the PTX manual, lane l, g = l / 4, t = l % 4 ---------------------------------

// One 16 x 16 times 16 x 8 product with entries that are all different: A and B are loaded value by value.
template <class T>
__global__ void multiply_kernel(const float* a, const float* b, const float* c, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    float av[8], bv[4], cv[4];
    for (int i = 0; i < 8; ++i) av[i] = a[(g + 8 * ((i / 2) % 2)) * 16 + 2 * t + i % 2 + 8 * (i / 4)];
    for (int i = 0; i < 4; ++i) bv[i] = b[(2 * t + i % 2 + 8 * (i / 2)) * 8 + g];
    for (int i = 0; i < 4; ++i) cv[i] = c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    const uint32_t ar[4] = {pack<T>(av[0], av[1]), pack<T>(av[2], av[3]), pack<T>(av[4], av[5]),
                            pack<T>(av[6], av[7])};
    const uint32_t br[2] = {pack<T>(bv[0], bv[1]), pack<T>(bv[2], bv[3])};
    multiply_add<T>(cv, ar, br);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = cv[i];
}

// The same through shared memory: A as [m][k], B as [k][n] or as [n][k], 16 columns of it, in two
// multiplications.
template <class T, bool transposed>
__global__ void load_kernel(const uint16_t* a, const uint16_t* b, float* d) {
    uint16_t* const sa = reinterpret_cast<uint16_t*>(shared_memory());
    uint16_t* const sb = sa + 256;
    const int l = threadIdx.x;
    store16(sa + 8 * l, load16(a + 8 * l));
    copy16_async(sb + 8 * l, b + 8 * l);
    commit_copies();
    wait_copies<0>();
    __syncwarp();
    uint32_t ar[4], br[4];
    load_matrices(ar, sa + (l % 16) * 16 + 8 * (l / 16));
    if (transposed) {
        load_matrices_transposed(br, sb + (l % 16) * 16 + 8 * (l / 16));
    } else {
        load_matrices(br, sb + (l % 8 + 8 * (l / 16)) * 16 + 8 * ((l / 8) % 2));
    }
    for (int tile = 0; tile < 2; ++tile) {
        float cv[4] = {0, 0, 0, 0};
        multiply_add<T>(cv, ar, {br[2 * tile], br[2 * tile + 1]});
        for (int i = 0; i < 4; ++i) d[(l / 4 + 8 * (i / 2)) * 16 + 8 * tile + 2 * (l % 4) + i % 2] = cv[i];
    }
}

// Every 16-bit number of four matrices identifies itself; the rows are stored in another order.
__global__ void matrices_kernel(uint32_t* plain, uint32_t* transposed) {
    uint16_t* const rows = reinterpret_cast<uint16_t*>(shared_memory());
    const int l = threadIdx.x, place = (l * 13 + 5) % 32;
    for (int c = 0; c < 8; ++c) rows[8 * place + c] = static_cast<uint16_t>(l * 8 + c);
    __syncwarp();
    uint32_t r[4], q[4];
    load_matrices(r, rows + 8 * place);
    load_matrices_transposed(q, rows + 8 * place);
    for (int j = 0; j < 4; ++j) plain[4 * l + j] = r[j], transposed[4 * l + j] = q[j];
}

template <class T>
void check_multiply(const std::string& schedule) {
    std::vector<float> a(256), b(128), c(128), d(128), wide(256), loaded(256);
    std::vector<uint16_t> a16(256), b16(256), bt16(256);
    for (int i = 0; i < 256; ++i) a[i] = static_cast<float>(i * 37 % 256 - 100);
    for (int i = 0; i < 256; ++i) wide[i] = static_cast<float>(i * 59 % 256 - 128);
    for (int i = 0; i < 128; ++i)
        b[i] = static_cast<float>(i * 11 % 128 - 50), c[i] = static_cast<float>(1000 * i + 1);
    for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 16; ++n) {
            a16[16 * k + n] = static_cast<uint16_t>(pack<T>(a[16 * k + n], 0));
            b16[16 * k + n] = bt16[16 * n + k] = static_cast<uint16_t>(pack<T>(wide[16 * k + n], 0));
        }
    run_well(schedule, 1, &multiply_kernel<T>, dim3(1), 32, 0, a.data(), b.data(), c.data(), d.data());
    for (int m = 0; m < 16; ++m)
        for (int n = 0; n < 8; ++n) {
            float want = c[8 * m + n];  // all sums are integers that float32 represents exactly
            for (int k = 0; k < 16; ++k) want += a[16 * m + k] * b[8 * k + n];
            check(d[8 * m + n] == want,
                  "multiply_add, row " + std::to_string(m) + " column " + std::to_string(n));
        }
    for (bool transposed : {false, true}) {
        run_well(schedule, 1, transposed ? &load_kernel<T, true> : &load_kernel<T, false>, dim3(1), 32, 1024,
                 a16.data(), transposed ? b16.data() : bt16.data(), loaded.data());
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 16; ++n) {
                float want = 0;
                for (int k = 0; k < 16; ++k) want += a[16 * m + k] * wide[16 * k + n];
                check(loaded[16 * m + n] == want, transposed ? "B from [k][n]" : "B from [n][k]");
            }
    }
}

void check_matrices() {
    for (const std::string& schedule : SCHEDULES) {
        check_multiply<bf16>(schedule);
        check_multiply<f16>(schedule);
        uint32_t plain[128], transposed[128];
        run_well(schedule, 1, &matrices_kernel, dim3(1), 32, 512, plain, transposed);
        for (int l = 0; l < 32; ++l)
            for (int j = 0; j < 4; ++j) {
                const auto entry = [j](int row, int column) {
                    return static_cast<uint32_t>((8 * j + row) * 8 + column);
                };
                const int g = l / 4, t = l % 4;
                check(plain[4 * l + j] == (entry(g, 2 * t) | entry(g, 2 * t + 1) << 16), "load_matrices");
                check(transposed[4 * l + j] == (entry(2 * t, g) | entry(2 * t + 1, g) << 16),
                      "load_matrices_transposed");
            }
    }
}

// ---- shuffles, votes, barriers ----------------------------------------------------------------------------

struct Exchange {
    uint32_t index, up, down, exclusive_or, narrow_up, narrow_down, narrow_index, ballot;
    int any, all;
    double wide;
};

// The lanes of each mask exchange values, on different paths through the kernel.
__global__ void exchange_kernel(Exchange* to, uint32_t mask) {
    const uint32_t l = threadIdx.x % 32, mine = 100 + threadIdx.x;
    if (!(mask >> l & 1)) mask = ~mask;
    for (uint32_t i = 0; i < l % 5; ++i) __syncwarp(1u << l);  // lanes arrive at different times
    Exchange x;
    if (l % 2) {
        x.index = __shfl_sync(mask, mine, static_cast<int>(l * 7));
    } else {
        x.index = __shfl_sync(mask, mine, static_cast<int>(l * 7));  // subtle: another line, as a GPU allows
    }
    x.up = __shfl_up_sync(mask, mine, 3);
    x.down = __shfl_down_sync(mask, mine, 5);
    x.exclusive_or = __shfl_xor_sync(mask, mine, 6);
    x.narrow_up = __shfl_up_sync(mask, mine, 1, 8);
    x.narrow_down = __shfl_down_sync(mask, mine, 1, 8);
    x.narrow_index = __shfl_sync(mask, mine, 13, 4);
    x.ballot = __ballot_sync(mask, l % 3 == 0);
    x.any = __any_sync(mask, l == 7), x.all = __all_sync(mask, l != 7);
    x.wide = __shfl_xor_sync(mask, 1.0 / mine, 1);
    to[threadIdx.x] = x;
}

void check_exchanges() {
    for (const std::string& schedule : SCHEDULES)
        for (uint32_t mask : {ALL, 0x55555555u, 0x0000ffffu, 0x00000080u, 0x12345678u}) {
            std::vector<Exchange> got(96);
            run_well(schedule, 1, &exchange_kernel, dim3(1), 96, 0, got.data(), mask);
            for (uint32_t i = 0; i < 96; ++i) {
                const uint32_t l = i % 32, own = mask >> l & 1 ? mask : ~mask, first = 100 + i - l;
                const auto from = [own, first](uint32_t lane) {
                    return own >> lane & 1 ? first + lane : ALL;
                };
                const Exchange& x = got[i];
                uint32_t thirds = 0;
                for (uint32_t k = 0; k < 32; k += 3) thirds |= 1u << k;
                check(x.index == from(l * 7 % 32), "__shfl_sync");
                check(x.up == from(l < 3 ? l : l - 3), "__shfl_up_sync");
                check(x.down == from(l + 5 > 31 ? l : l + 5), "__shfl_down_sync");
                check(x.exclusive_or == from(l ^ 6), "__shfl_xor_sync");
                check(x.narrow_up == from(l % 8 == 0 ? l : l - 1), "__shfl_up_sync of 8");
                check(x.narrow_down == from(l % 8 == 7 ? l : l + 1), "__shfl_down_sync of 8");
                check(x.narrow_index == from(l / 4 * 4 + 1), "__shfl_sync of 4");
                check(x.ballot == (thirds & own), "__ballot_sync");
                check(__popc(x.ballot) == static_cast<int>(std::bitset<32>(thirds & own).count()), "__popc");
                check(x.any == int(own >> 7 & 1) && x.all == !(own >> 7 & 1), "__any_sync, __all_sync");
                check(from(l ^ 1) == ALL ? std::isnan(x.wide) : x.wide == 1.0 / from(l ^ 1),
                      "__shfl_xor_sync of double");
            }
        }
}

// Some lanes exchange values while the others wait for them in a collective of the whole warp: allowed.
__global__ void overlap_kernel(uint32_t* to) {
    uint32_t x = threadIdx.x;
    if (x < 4) x = __shfl_xor_sync(0xfu, x, 1);
    to[threadIdx.x] = __shfl_xor_sync(ALL, x, 2);
}

// Every thread adds what another warp wrote in the previous round.
__global__ void rounds_kernel(int* to, int rounds) {
    int* const shared = reinterpret_cast<int*>(shared_memory());
    const int n = static_cast<int>(blockDim.x), i = static_cast<int>(threadIdx.x);
    int x = i;
    for (int round = 0; round < rounds; ++round) {
        shared[i] = x;
        __syncthreads();
        x += shared[(i + 33) % n];
        __syncthreads();
    }
    to[i] = x;
}

void check_barriers() {
    for (const std::string& schedule : SCHEDULES)
        for (int n : {1, 31, 33, 128, 1024}) {
            std::vector<int> got(n), want(n), before(n);
            run_well(schedule, 1, &rounds_kernel, dim3(1), n, 4 * n, got.data(), 5);
            for (int i = 0; i < n; ++i) want[i] = i;
            for (int round = 0; round < 5; ++round) {
                before = want;
                for (int i = 0; i < n; ++i) want[i] += before[(i + 33) % n];
            }
            check(got == want, "barriers of " + std::to_string(n) + " threads, " + schedule);
        }
    uint32_t got[32];
    for (const std::string& schedule : SCHEDULES) {
        run_well(schedule, 1, &overlap_kernel, dim3(1), 32, 0, got);
        for (uint32_t l = 0; l < 32; ++l)
            check(got[l] == ((l ^ 2) < 4 ? l ^ 2 ^ 1 : l ^ 2), "a narrow mask within a wide one");
    }
}

// ---- copies in the background, and the bugs of a pipeline -------------------------------------------------

__global__ void copies_kernel(const uint4* from, uint32_t* seen) {
    uint4* const shared = reinterpret_cast<uint4*>(shared_memory()) + 4 * threadIdx.x;
    uint32_t* const to = seen + 16 * threadIdx.x;
    const auto look = [&](int step) {
        for (int i = 0; i < 4; ++i) to[4 * step + i] = shared[i].x;
    };
    look(0);  // nothing there yet
    for (int i = 0; i < 3; ++i) {
        copy16_async(shared + i, from + i);
        commit_copies();
    }
    copy16_async(shared + 3, from + 3);  // not in a group yet
    look(1);
    wait_copies<2>();
    look(2);
    wait_copies<0>();
    look(3);
}

enum Missing { NOTHING, BARRIER_BEFORE_REFILL, BARRIER_AFTER_WAIT, WAIT };

// Each thread sums what all threads copied of each tile; two tiles are in shared memory.
template <Missing missing>
__global__ void sum_kernel(const uint32_t* tiles, uint32_t* sums, int count) {
    uint32_t* const shared = reinterpret_cast<uint32_t*>(shared_memory());
    const int n = static_cast<int>(4 * blockDim.x), mine = static_cast<int>(4 * threadIdx.x);
    const auto copy = [&](int tile) {
        if (tile < count) copy16_async(shared + tile % 2 * n + mine, tiles + tile * n + mine);
        commit_copies();
    };
    uint32_t sum = 0;
    copy(0);
    for (int tile = 0; tile < count; ++tile) {
        copy(tile + 1);
        if (missing != WAIT) wait_copies<1>();
        if (missing != BARRIER_AFTER_WAIT) __syncthreads();
        for (int i = 0; i < n; ++i) sum = sum * 3 + shared[tile % 2 * n + i];
        if (missing != BARRIER_BEFORE_REFILL) __syncthreads();
    }
    sums[threadIdx.x] = sum;
}

void check_copies() {
    std::vector<uint4> from(4);
    for (unsigned i = 0; i < 4; ++i) from[i] = make_uint4(i + 1, 0, 0, 0);
    for (const std::string& schedule : SCHEDULES) {
        std::vector<uint32_t> seen(64 * 16);
        run_well(schedule, 1, &copies_kernel, dim3(1), 64, 64 * 64, from.data(), seen.data());
        int at_once = 0, under_way = 0;
        for (int thread = 0; thread < 64; ++thread)
            for (int i = 0; i < 16; ++i) {
                // the number of copies that must have arrived
                const int step = i / 4, landed = step == 3 ? 3 : step == 2 ? 1 : 0;
                const uint32_t x = seen[16 * thread + i], value = static_cast<uint32_t>(i % 4 + 1);
                check(x == value || (i % 4 >= landed && x == ALL), "a copy is there when it was waited for");
                check(step > 0 || x == ALL, "shared memory begins as NaN");
                at_once += step == 1 && x == value;
                under_way += (step == 2 && i % 4 > 0) || (step == 3 && i % 4 == 3) ? x == ALL : 0;
            }
        check(under_way > 150, "a wait leaves the youngest groups under way, and what is in no group");
        check(at_once > 5 && at_once < 100,
              "about one copy in 8 lands at once: " + std::to_string(at_once) + " of 256");
    }

    const int count = 5, n = 128;
    std::vector<uint32_t> tiles(count * 4 * n), sums(n);
    Random random;
    for (uint32_t& x : tiles) x = static_cast<uint32_t>(random());
    uint32_t want = 0;
    for (uint32_t x : tiles) want = want * 3 + x;
    const auto right = [&](const std::string& schedule, auto kernel) {
        std::fill(sums.begin(), sums.end(), 0);
        run_well(schedule, 1, kernel, dim3(1), n, 2 * 16 * n, tiles.data(), sums.data(), count);
        for (uint32_t sum : sums)
            if (sum != want) return false;
        return true;
    };
    for (const std::string order : {"in-order:", "reverse:", "pct:"})
        for (int seed = 0; seed < 40; ++seed) {
            const std::string schedule = order + std::to_string(seed);
            check(right(schedule, &sum_kernel<NOTHING>), "a right pipeline, " + schedule);
            check(!right(schedule, &sum_kernel<BARRIER_BEFORE_REFILL>),
                  "no barrier before a refill, " + schedule);
            check(!right(schedule, &sum_kernel<BARRIER_AFTER_WAIT>),
                  "no barrier after the wait, " + schedule);
            check(!right(schedule, &sum_kernel<WAIT>), "no wait, " + schedule);
        }
}

// ---- schedules --------------------------------------------------------------------------------------------

// Each thread records when it had its turns.
__global__ void trace_kernel(int* trace, int* turns, int rounds, bool barriers) {
    int* const mine = trace + blockIdx.x * blockDim.x * rounds;
    for (int round = 0; round < rounds; ++round) {
        mine[turns[blockIdx.x]++] = static_cast<int>(threadIdx.x) + 1000 * round;
        if (round % 4 == 3 && barriers) {
            __syncthreads();
        } else {
            __syncwarp();
        }
    }
}

std::vector<int> trace_of(const std::string& schedule, int os_threads) {
    const int blocks = 7, threads = 96, rounds = 8;
    std::vector<int> trace(blocks * threads * rounds), turns(blocks);
    run_well(schedule, os_threads, &trace_kernel, dim3(blocks), threads, 0, trace.data(), turns.data(),
             rounds, true);
    return trace;
}

__global__ void order_kernel(int* order, int* turns) {
    if (threadIdx.x == 0) order[turns[0]++] = static_cast<int>(blockIdx.x);
}

void check_schedules() {
    std::vector<int> in_order;
    for (int i = 0; i < 96 * 4; ++i)  // a warp runs as far as it can
        in_order.push_back(i % 32 + 32 * (i / 128) + 1000 * (i / 32 % 4));
    const std::vector<int> got = trace_of("in-order", 1), back = trace_of("reverse", 1);
    for (int i = 0; i < 96 * 4; ++i) {
        check(got[i] == in_order[i], "in order: the lowest number first");
        check(back[i] % 1000 == 95 - in_order[i] % 1000 && back[i] / 1000 == in_order[i] / 1000,
              "reverse: the highest first");
    }
    for (const std::string& schedule : SCHEDULES)
        for (int os_threads : {1, 2, 3})
            check(trace_of(schedule, 1) == trace_of(schedule, os_threads), "a schedule repeats, " + schedule);
    check(trace_of("pct:1", 1) != trace_of("pct:2", 1) && trace_of("pct:1", 1) != got,
          "each seed is another schedule");
    const std::vector<int> trace = trace_of("pct:1", 1);
    check(!std::equal(trace.begin(), trace.begin() + 768, trace.begin() + 768),
          "each block is drawn on its own");

    int turn = 0, changes = 0;  // without new priorities, a warp without barriers would run to its end
    std::vector<int> alone(96 * 64);
    run_well("pct:1", 1, &trace_kernel, dim3(1), 96, 0, alone.data(), &turn, 64, false);
    for (size_t i = 1; i < alone.size(); ++i) changes += alone[i] % 1000 / 32 != alone[i - 1] % 1000 / 32;
    check(changes > 5 && changes < 100,
          "priorities are drawn anew: " + std::to_string(changes) + " changes of warps");

    std::vector<int> order(9), other(9), forward = {0, 1, 2, 3, 4, 5, 6, 7, 8},
                                         backward = {8, 7, 6, 5, 4, 3, 2, 1, 0};
    int turns[3] = {0, 0, 0};
    run_well("in-order", 1, &order_kernel, dim3(9), 64, 0, order.data(), turns);
    run_well("reverse", 1, &order_kernel, dim3(9), 64, 0, other.data(), turns + 1);
    check(order == forward && other == backward, "blocks in order, in reverse");
    run_well("pct:3", 1, &order_kernel, dim3(9), 64, 0, other.data(), turns + 2);
    std::sort(order.begin(), order.end());
    check(other != forward && other != backward, "blocks are drawn");
    std::sort(other.begin(), other.end());
    check(other == forward, "each block once");

    for (const char* text : {"", "random", "pct", "pct:", "pct:x", "pct:-1", "in-order:", "reverse:1:2",
                             "reverse ", "pct:99999999999999999999"}) {
        bool refused = false;
        try {
            parse_schedule(text);
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        check(refused, std::string("schedule '") + text + "'");
    }
    for (const char* text : {"in-order", "reverse", "reverse:4", "pct:0", "pct:18446744073709551"})
        check(schedule_text(parse_schedule(text)) == text, std::string("schedule ") + text);
}

// ---- launches ---------------------------------------------------------------------------------------------

struct Parameters {
    uint32_t* to;
    double factor;
};

__global__ void index_kernel(Parameters p, const int* array, float small) {
    const uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    p.to[block * blockDim.x + threadIdx.x] +=
        static_cast<uint32_t>(p.factor * small * array[1]) + block * 100 + threadIdx.x;
}

template <class Kernel, class... Args>
void expect_refusal(cudaError_t want, const std::string& words, dim3 grid, int threads, size_t shared,
                    Kernel kernel, Args... args) {
    check(run("in-order", 1, kernel, grid, threads, shared, args...) == want, "refused: " + words);
    const size_t illegal = last_report().find("illegal launch"), where = last_report().find(words);
    check(illegal == 0 && where != std::string::npos, words + ": " + last_report());
    check(cudaGetErrorString(want) == last_report(), "cudaGetErrorString");
}

void check_launches() {
    const int array[2] = {0, 5};
    for (const std::string& schedule : SCHEDULES)
        for (int os_threads : {1, 2, 4}) {
            std::vector<uint32_t> to(24 * 40);
            run_well(schedule, os_threads, &index_kernel, dim3(2, 3, 4), 40, 100, Parameters{to.data(), 2.0},
                     array, 3);
            for (uint32_t i = 0; i < to.size(); ++i) check(to[i] == 30 + i / 40 * 100 + i % 40, "indices");
        }
    int order[1], turns[1] = {0};
    for (int threads : {-1, 0, 1025})
        expect_refusal(cudaErrorInvalidConfiguration, "threads in a block", dim3(1), threads, 0,
                       &order_kernel, order, turns);
    expect_refusal(cudaErrorInvalidConfiguration, "blocks along x", dim3(0), 32, 0, &order_kernel, order,
                   turns);
    expect_refusal(cudaErrorInvalidConfiguration, "blocks along y", dim3(1, 65536), 32, 0, &order_kernel,
                   order, turns);
    expect_refusal(cudaErrorInvalidConfiguration, "blocks along z", dim3(1, 1, 65536), 32, 0, &order_kernel,
                   order, turns);
    expect_refusal(cudaErrorInvalidValue, "accepted: 0 to 232448", dim3(1), 32, 227 * 1024 + 1, &order_kernel,
                   order, turns);
    run_well("in-order", 1, &order_kernel, dim3(1), 1024, 227 * 1024, order, turns);
    check(turns[0] == 1, "a launch after refused ones");
}

// ---- reports: kernels with one mistake each ---------------------------------------------------------------

int lines[2];  // where the mistake is
std::string source = "check_simt.cpp:";
#define LINE(i) lines[i] = __LINE__

__global__ void divergent_barriers() {
    if (threadIdx.x < 32) {
        LINE(0), __syncthreads();
    } else {
        LINE(1), __syncthreads();
    }
}
__global__ void barrier_without_one() {
    if (threadIdx.x == 0) return;
    LINE(0), __syncthreads();
}
__global__ void vote_without_one() {
    if (threadIdx.x == 0) return;
    LINE(0), __any_sync(ALL, 1);
}
__global__ void not_in_its_mask() {
    if (threadIdx.x == 7) LINE(0), __syncwarp(0xf);
}
__global__ void full_mask() { LINE(0), __shfl_xor_sync(ALL, 1, 1); }
__global__ void different_collectives() {
    if (threadIdx.x < 16) {
        LINE(0), __shfl_sync(ALL, 1, 1);
    } else {
        LINE(1), __ballot_sync(ALL, 1);
    }
}
__global__ void matrices_from_two_places() {
    uint32_t r[4];
    std::memset(shared_memory() + 16 * threadIdx.x, 0, 16);
    if (threadIdx.x < 16) {
        LINE(0), load_matrices(r, shared_memory() + 16 * threadIdx.x);
    } else {
        LINE(1), load_matrices(r, shared_memory() + 16 * threadIdx.x);
    }
}
template <class T>
__global__ void multiply_from_two_places() {
    float d[4] = {0, 0, 0, 0};
    const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    if (threadIdx.x % 2) {
        LINE(0), multiply_add<T>(d, a, b);
    } else {
        LINE(1), multiply_add<T>(d, a, b);
    }
}
__global__ void part_of_a_warp() {
    float d[4] = {0, 0, 0, 0};
    const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    LINE(0), multiply_add<bf16>(d, a, b);
}
__global__ void deadlock() {  // lanes 0-15 wait for the block, lanes 16-31 for them
    if (threadIdx.x < 16 || threadIdx.x >= 32) {
        LINE(0), __syncthreads();
    } else {
        LINE(1), __shfl_sync(ALL, 1, 1);
    }
}
__global__ void deadlock_of_masks() {  // and warp 1 leaves
    if (threadIdx.x >= 32) return;
    if (threadIdx.x < 31) {
        LINE(0), __syncwarp(ALL);
    } else {
        LINE(1), __syncwarp(0xfffffffe);
    }
}
__global__ void matrices_at(int offset) {
    uint32_t r[4];
    LINE(0), load_matrices(r, shared_memory() + offset);
}
__global__ void copy_at(int offset, const void* from) {
    LINE(0), copy16_async(shared_memory() + offset, from);
}
__global__ void matrices_before_the_wait(const uint4* from) {
    uint32_t r[4];
    copy16_async(shared_memory() + 16 * threadIdx.x, from + threadIdx.x);
    commit_copies();
    LINE(0), load_matrices(r, shared_memory() + 16 * threadIdx.x);
}
__global__ void wrong_blocks(int first) {  // the first takes longer than the third, and the second longest
    const int number = static_cast<int>(blockIdx.x) - first;
    for (int i = 0; i < (number == 0 ? 2000 : number == 1 ? 6000 : 1); ++i) __syncthreads();
    if (number >= 0 && threadIdx.x == 33) __syncwarp(1);
}

// The words must be in the report, and the lines of the first `places` LINEs.
template <class Kernel, class... Args>
void expect_report(const std::vector<std::string>& schedules, const std::vector<std::string>& words,
                   int places, int threads, size_t shared, Kernel kernel, Args... args) {
    for (const std::string& schedule : schedules) {
        lines[0] = lines[1] = 0;
        const cudaError_t error = run(schedule, 1, kernel, dim3(1), threads, shared, args...);
        check(error == cudaErrorLaunchFailure,
              "a wrong kernel is not reported: " + words[0] + ", " + schedule);
        std::vector<std::string> all = words;
        for (int i = 0; i < places; ++i)
            all.push_back(source + std::to_string(lines[i]));
        all.push_back("block (0, 0, 0) of (1, 1, 1), " + std::to_string(threads) + " threads; schedule " +
                      schedule + "\n");
        for (const std::string& word : all)
            check(last_report().find(word) != std::string::npos,
                  "'" + word + "' is missing in: " + last_report());
        int turns[1] = {0}, order[1];
        run_well(schedule, 1, &order_kernel, dim3(1), threads, 1024, order, turns);
        check(turns[0] == 1, "a launch after a report");
    }
}

template <class Kernel, class... Args>
auto expect_report(const std::vector<std::string>& schedules, const std::vector<std::string>& words,
                   int places, int threads, Kernel kernel, Args... args)
    -> std::enable_if_t<std::is_pointer<Kernel>::value> {
    expect_report(schedules, words, places, threads, size_t(1024), kernel, args...);
}

void check_reports() {
    const std::vector<std::string> all = SCHEDULES, first = {"in-order"}, last = {"reverse"};
    alignas(16) static const unsigned char zeros[2048] = {};
    const std::string matrices = "load_matrices at offset ", copy = "copy16_async at offset ";
    const std::string misaligned = " of shared memory: not a multiple of 16";
    const std::string outside = " of shared memory: outside of its 1024 bytes";
    const std::string two_places = " of one warp is called from two places";
    const std::string left = "thread 0: it leaves the kernel while others wait";

    expect_report(first, {"thread 32: barrier divergence", "in __syncthreads", "threads 0-31\n"}, 2, 64,
                  &divergent_barriers);
    expect_report(all, {"barrier divergence"}, 2, 64, &divergent_barriers);
    expect_report(first, {"thread 1: barrier after an exit", "out of the kernel: thread 0\n"}, 1, 64,
                  &barrier_without_one);
    expect_report(last, {left + " for it in __syncthreads", "threads 1-63\n"}, 1, 64, &barrier_without_one);

    expect_report(first, {"thread 1: __any_sync: mask 0xffffffff names lane 0, which has left"}, 1, 64,
                  &vote_without_one);
    expect_report(last, {left + " for it in __any_sync", "threads 1-31\n"}, 1, 32, &vote_without_one);
    expect_report(all, {"thread 7: __syncwarp: lane 7 is not in its mask 0x0000000f"}, 1, 64,
                  &not_in_its_mask);
    expect_report(all, {"__shfl_xor_sync: mask 0xffffffff names lane 16, which this block does not have"}, 1,
                  48, &full_mask);

    expect_report(first,
                  {"thread 16: different collectives meet: __ballot_sync and __shfl_sync", "threads 0-15\n"},
                  2, 32, &different_collectives);
    expect_report(all, {"different collectives meet"}, 2, 64, &different_collectives);
    expect_report(all, {"load_matrices" + two_places}, 2, 32, &matrices_from_two_places);
    expect_report(all, {"multiply_add<bf16>" + two_places}, 2, 64, &multiply_from_two_places<bf16>);
    expect_report(all, {"multiply_add<f16>" + two_places}, 2, 64, &multiply_from_two_places<f16>);
    expect_report(all, {"multiply_add<bf16>: mask 0xffffffff names lane 8, which this block does not"}, 1, 40,
                  &part_of_a_warp);

    expect_report(
        all,
        {"deadlock", "in __syncthreads", ": threads 0-15, 32-95\n", "in __shfl_sync", ": threads 16-31\n"}, 2,
        96, &deadlock);
    expect_report(all, {"deadlock", "in __syncwarp", ": threads 0-30\n", ": thread 31\n"}, 2, 64,
                  &deadlock_of_masks);

    expect_report(all, {matrices + "8" + misaligned}, 1, 32, &matrices_at, 8);
    expect_report(all, {matrices + "1016" + outside}, 1, 32, &matrices_at, 1016);
    expect_report(all, {matrices + "1024" + outside}, 1, 32, &matrices_at, 1024);
    expect_report(all, {matrices + "-16" + outside}, 1, 32, &matrices_at, -16);
    expect_report(all, {copy + "4" + misaligned}, 1, 32, &copy_at, 4, zeros);
    expect_report(all, {copy + "1016" + outside}, 1, 32, &copy_at, 1016, zeros);
    expect_report(all, {"copy16_async: the source is not a multiple of 16"}, 1, 32, &copy_at, 0, zeros + 8);
    const std::string unwritten = "load_matrices reads 16 bytes of shared memory that were not written yet";
    expect_report(all, {unwritten}, 1, 32, &matrices_at, 512);
    expect_report(all, {unwritten}, 1, 32, &matrices_before_the_wait, reinterpret_cast<const uint4*>(zeros));

    for (int os_threads : {1, 2, 3}) {  // of several wrong blocks, the first is reported
        run("in-order", os_threads, &wrong_blocks, dim3(20), 64, 0, 11);
        const bool first_one = last_report().find("block (11, 0, 0) of (20, 1, 1)") != std::string::npos;
        check(first_one, "the first wrong block: " + last_report());
        run("pct:5", 1, &wrong_blocks, dim3(20), 64, 0, 11);
        const std::string alone = last_report();
        run("pct:5", os_threads, &wrong_blocks, dim3(20), 64, 0, 11);
        check(!alone.empty() && alone == last_report(),
              "the same report with more OS threads: " + last_report());
    }
}

#include "simt_hopper.inc"

// ---- traffic ----------------------------------------------------------------------------------------------

// Rows of 128 bytes, like those of tiles with 64 numbers: 16-byte chunks in place, or spread by the row.
__global__ void traffic_kernel(const unsigned char* from, int stride, int spread, unsigned char* to) {
    unsigned char* const shared = shared_memory();
    const int l = threadIdx.x % 32;
    const auto place = [&](int row, int chunk) {
        return shared + 128 * row + 16 * (chunk ^ (spread ? row % 8 : 0));
    };
    for (int i = 0; i < 2; ++i) {
        for (int part = 0; part < 8; ++part)
            copy16_async(place(4 * part + l / 8, l % 8), from + stride * (32 * part + l));
        commit_copies();
        wait_copies<0>();
        __syncthreads();
        uint32_t r[4];
        load_matrices(r, place(l, 3));
        load_matrices_transposed(r, place(l % 8, 5));
        if (l < 24) store16(to + 512 * blockIdx.x + 16 * l, load16(place(l, 1)));
        __syncthreads();
    }
}

void check_traffic() {
    alignas(32) static unsigned char from[64 * 256], to[3 * 512];
    for (const std::string& schedule : SCHEDULES)
        for (int os_threads : {1, 2})
            for (int spread : {0, 1})
                for (int stride : {16, 64}) {
                    count_traffic(true);
                    run_well(schedule, os_threads, &traffic_kernel, dim3(3), 32, 4096, from, stride, spread,
                             to);
                    const Traffic t = traffic();
                    const uint64_t times = 2 * 3;
                    check(t.matrix_phases == times * 8 && t.matrix_conflicts == (spread ? 0 : times * 8 * 7),
                          "load_matrices");
                    check(t.shared_phases == times * (32 + 3), "phases of shared memory");
                    check(t.shared_conflicts == (spread ? 0 : times * 3 * 7), "conflicts in shared memory");
                    check(t.global_bytes == times * 16 * (256 + 24), "bytes asked for");
                    check(t.global_sectors == times * ((stride == 16 ? 128 : 256) + 12), "sectors");
                    count_traffic(false);
                    run_well(schedule, os_threads, &traffic_kernel, dim3(3), 32, 4096, from, stride, spread,
                             to);
                    check(traffic().global_bytes == 0, "not counted unless asked for");
                }
}

// ---- for the sanitizers -----------------------------------------------------------------------------------

template <bool racy>
__global__ void pass_in_warp(int* to) {
    int* const shared = reinterpret_cast<int*>(shared_memory());
    shared[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (racy) {
        // subtle: all lanes take part, but a shuffle does not order memory accesses
        __shfl_xor_sync(ALL, 1, 1);
    } else {
        __syncwarp();
    }
    to[threadIdx.x] = shared[threadIdx.x ^ 1];
}
template <bool racy>
__global__ void write_in_blocks(int* to) {
    if (threadIdx.x == 0) to[racy ? 0 : blockIdx.x] = 1;
}
__global__ void overrun_shared() { shared_memory()[1000 + threadIdx.x] = 0; }
__global__ void overrun_global(const uint4* from) {
    copy16_async(shared_memory() + 16 * threadIdx.x, from + threadIdx.x);
}

template <bool racy>
bool race(const std::string& name) {
    const int n = 64, count = 3;
    std::vector<uint32_t> tiles(count * 4 * n), sums(n);
    std::vector<int> to(n);
    bool known = false;
    for (const std::string& schedule : SCHEDULES)
        for (int os_threads : {1, 2}) {
            if (name == "barrier" || name.empty())
                run_well(schedule, os_threads, &sum_kernel<racy ? BARRIER_BEFORE_REFILL : NOTHING>, dim3(1),
                         n, 2 * 16 * n, tiles.data(), sums.data(), count),
                    known = true;
            if (name == "warp" || name.empty())
                run_well(schedule, os_threads, &pass_in_warp<racy>, dim3(1), n, 4 * n, to.data()),
                    known = true;
            if (name == "blocks" || name.empty())
                run_well(schedule, os_threads, &write_in_blocks<racy>, dim3(4), n, 0, to.data()),
                    known = true;
            if (name == "ring" || name.empty())
                run_well(schedule, os_threads, &ring_kernel<racy ? EARLY_RELEASE : RIGHT>, dim3(1), 96,
                         64 + 1024, tiles.data(), sums.data(), count),
                    known = true;
            if (racy) return known;  // one is enough
        }
    return known;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "", name = argc > 2 ? argv[2] : "";
    if (what == "race" || what == "norace") {
        if (!(what == "race" ? race<true>(name) : race<false>(name))) return 2;
        return misses ? 1 : 0;
    }
    if (what == "overrun") {
        const std::vector<uint4> from(63);
        if (name == "shared") run("in-order", 1, &overrun_shared, dim3(1), 64, 1063);
        if (name == "global") run("in-order", 1, &overrun_global, dim3(1), 64, 1024, from.data());
        return 0;
    }
    const struct {
        const char* name;
        void (*run)();
    } groups[] = {{"number formats", check_formats},
                  {"matrices", check_matrices},
                  {"shuffles and votes", check_exchanges},
                  {"barriers", check_barriers},
                  {"copies", check_copies},
                  {"schedules", check_schedules},
                  {"launches", check_launches},
                  {"reports", check_reports},
                  {"traffic", check_traffic},
                  {"warpgroups", check_groups},
                  {"reports of Hopper", check_hopper_reports}};
    for (const auto& group : groups) {
        const int before = misses;
        group.run();
        std::printf("%-20s %s\n", group.name, misses == before ? "ok" : "FAILED");
    }
    return misses ? 1 : 0;
}
