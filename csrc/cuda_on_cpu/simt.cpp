// The machine behind simt.h: blocks, warps, and the scheduler.
#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "../cuda/hopper_device.h"
#include "async.h"
#include "fiber.h"
#include "traffic.h"

namespace minglm {
namespace emulated {

__thread Here here;

namespace {

constexpr int MAX_THREADS = 1024, MAX_WARPS = 32;
constexpr size_t MAX_SHARED = 227 * 1024, RED_ZONE = 128, ROOM = 256 * 1024, STACK = 256 * 1024;
constexpr uint32_t ALL = 0xffffffffu;

thread_local Schedule current_schedule;
thread_local std::string report;
thread_local bool counting = false;
thread_local Traffic total;

uint64_t mix(uint64_t x) {  // as in splitmix64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

struct Random {
    uint64_t state = 0;
    uint64_t operator()() { return mix(state += 0x9E3779B97F4A7C15u); }
    template <class T>
    void shuffle(T* x, size_t n) {
        for (; n > 1; --n) std::swap(x[n - 1], x[(*this)() % n]);
    }
};

bool same(Site a, Site b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}
std::string text(Index i) {
    return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

struct Launch {
    void (*body)(const void*);
    const void* call;
    dim3 grid;
    int threads;
    size_t shared_bytes;
    Schedule schedule;
    bool counting;
    std::vector<uint32_t> blocks;  // in the order in which they begin

    // places in that order; no block begins at or after stop
    std::atomic<uint64_t> next{0}, stop{UINT64_MAX};
    std::mutex mutex;                                 // of what follows
    std::string report;                               // of the block at place stop
    Traffic traffic;
};

// A lane's operands of a collective. The addresses are those of its own variables: it waits, so they stay
// valid.
struct Operand {
    void* result;
    const void *a, *b;
    uint64_t value;
    int source;
};

struct Collective {
    const char* name;
    bool aligned;  // all 32 lanes, at one place in the program
    bool orders;   // memory accesses before it come before those after it
};
const Collective SHUFFLES[] = {{"__shfl_sync", false, false}, {"__shfl_up_sync", false, false},
                               {"__shfl_down_sync", false, false}, {"__shfl_xor_sync", false, false}};
const Collective VOTES[] = {
    {"__ballot_sync", false, false}, {"__any_sync", false, false}, {"__all_sync", false, false}};
const Collective SYNCWARP = {"__syncwarp", false, true};
const Collective LOAD = {"load_matrices", true, false},
                 LOAD_TRANSPOSED = {"load_matrices_transposed", true, false};
const Collective MULTIPLY_BF16 = {"multiply_add<bf16>", true, false},
                 MULTIPLY_F16 = {"multiply_add<f16>", true, false};
const Collective PRODUCT = {"multiply_group", true, false}, START = {"start_products", true, false},
                 END = {"end_products", true, false}, WAIT = {"wait_products", true, false};

// A collective that some lanes of a mask have reached and others have not.
struct Meeting {
    uint32_t mask, arrived;
    const Collective* what;
    Site site;
    void* order;
};

struct Warp {
    uint32_t exist, alive, ready;  // lanes; ready: those that can run, or are running
    uint32_t open;                 // meetings in use
    Meeting meetings[32];          // each lane waits in at most one
    Operand operand[32];
    unsigned orders;
};

struct Copy {
    void* shared;
    const void* global;
    unsigned group;
};

struct Thread {
    Fiber fiber;
    Pages stack{STACK};
    const char* waits_in = nullptr;  // for a report: what, and where
    Site site{};
    std::vector<Copy> copies;  // under way, oldest first
    unsigned groups = 0;       // closed
};

// ---- a block, and its scheduler ---------------------------------------------------------------------------

class Block {
public:
    void reserve(int threads) {
        while (static_cast<int>(threads_.size()) < threads) threads_.push_back(std::make_unique<Thread>());
    }
    void work(Launch& launch);
    void leave();  // the running thread has ended
    // Reports an error of the running thread. subtle: a format, because strings of a dropped fiber would
    // leak.
    [[noreturn]] __attribute__((format(printf, 3, 4))) void fail(Site site, const char* format, ...);

    // The running lane waits for the others of its mask; the last one to arrive acts for all.
    template <class Act>
    void meet(uint32_t mask, const Collective& what, Site site, const Operand& operand, Act act);
    void barrier(Site site);
    void check_shared(const void* address, const char* what, Site site);

    // What hopper.h describes.
    Products& products() { return products_[here.thread.x / 32]; }
    void begin_product(Product& product, Site site);
    void land_products(Products& of, unsigned under_way, Site site);
    CountingBarrier& counting_barrier(uint64_t* at, const char* what, Site site);
    void arrive(CountingBarrier& barrier);
    void wait(CountingBarrier& barrier, int parity, Site site);
    void named_barrier(int name, int threads, bool waits, Site site);

    Launch* launch = nullptr;
    Unpublished unpublished;
    std::map<uint64_t*, CountingBarrier> counting_barriers;
    Random random;
    Counter counter;
    Thread& running() { return *threads_[here.thread.x]; }

private:
    bool run(uint64_t place);
    [[noreturn]] void stop(const char* why);
    int next();
    void go_on();
    void sleep(const char* what, Site site);
    void wake(int warp, uint32_t lanes);
    void rank_warps();
    Meeting& meeting(Warp& w, uint32_t mask, const Collective& what, Site site);
    std::string numbers(const std::vector<int>& threads) const;
    std::string everybody() const;

    std::vector<std::unique_ptr<Thread>> threads_;
    Warp warps_[MAX_WARPS];
    uint32_t ready_ = 0;  // bit r: the warp of rank r has a lane that can run; the lowest rank runs
    int warp_at_[MAX_WARPS], rank_of_[MAX_WARPS], warp_count_ = 0;
    int alive_ = 0, at_barrier_ = 0;
    unsigned barriers_ = 0;
    Site barrier_site_{};
    Products products_[MAX_WARPS];
    std::vector<Issued> issued_[MAX_WARPS / 4];  // by each warpgroup
    NamedBarrier named_[16];
    Fiber main_;
    Pages memory_{ROOM};          // shared memory between red zones, and ...
    uint64_t* orders_ = nullptr;  // ... addresses to release and acquire: 64 per block, 64 per warp, in turn
    std::string error_;
};

__thread Block* block = nullptr;

void thread_main() {
    begun();
    block->launch->body(block->launch->call);
    block->leave();
}

void Block::rank_warps() {
    if (launch->schedule.order == Order::pct) random.shuffle(warp_at_, warp_count_);
    ready_ = 0;
    for (int rank = 0; rank < warp_count_; ++rank) {
        rank_of_[warp_at_[rank]] = rank;
        if (warps_[warp_at_[rank]].ready) ready_ |= 1u << rank;
    }
}

// The number of the next thread to run; -1 if all wait.
int Block::next() {
    if (!ready_) return -1;
    if (launch->schedule.order != Order::pct) {
        const int warp = warp_at_[__builtin_ctz(ready_)];
        const uint32_t lanes = warps_[warp].ready;
        return 32 * warp +
               (launch->schedule.order == Order::in_order ? __builtin_ctz(lanes) : 31 - __builtin_clz(lanes));
    }
    const uint64_t drawn = random();
    if (drawn % 256 == 0) rank_warps();
    const int warp = warp_at_[__builtin_ctz(ready_)], turn = drawn >> 8 & 31;
    const uint64_t lanes = uint64_t(warps_[warp].ready) << 32 | warps_[warp].ready;
    return 32 * warp + (__builtin_ctz(static_cast<uint32_t>(lanes >> turn)) + turn) % 32;
}

// Hand over to the next thread, which may be this one.
void Block::go_on() {
    const int to = next();
    if (to < 0) stop("deadlock: no thread can go on");
    if (to == static_cast<int>(here.thread.x)) return;
    Thread& from = running();
    here.thread.x = static_cast<unsigned>(to);
    hand_over(from.fiber, running().fiber);
}

void Block::sleep(const char* what, Site site) {
    const int warp = here.thread.x / 32;
    Thread& me = running();
    me.waits_in = what, me.site = site;
    if (!(warps_[warp].ready &= ~(1u << here.thread.x % 32))) ready_ &= ~(1u << rank_of_[warp]);
}

void Block::wake(int warp, uint32_t lanes) {
    warps_[warp].ready |= lanes;
    ready_ |= 1u << rank_of_[warp];
}

Meeting& Block::meeting(Warp& w, uint32_t mask, const Collective& what, Site site) {
    const unsigned lane = here.thread.x % 32;
    for (uint32_t open = w.open; open; open &= open - 1) {
        Meeting& m = w.meetings[__builtin_ctz(open)];
        if (m.mask != mask) continue;
        if (m.what != &what) fail(site, "different collectives meet: %s and %s", what.name, m.what->name);
        if (what.aligned && !same(m.site, site))
            fail(site, "%s of one warp is called from two places", what.name);
        if (mask >> lane & 1) return m;
    }
    if (!(mask >> lane & 1)) fail(site, "%s: lane %u is not in its mask 0x%08x", what.name, lane, mask);
    if (const uint32_t missing = mask & ~w.alive) {
        const bool left = w.exist & missing & -missing;
        fail(site, "%s: mask 0x%08x names lane %d, which %s", what.name, mask, __builtin_ctz(missing),
             left ? "has left the kernel" : "this block does not have");
    }
    const int free = __builtin_ctz(~w.open);
    w.open |= 1u << free;
    return w.meetings[free] = {mask, 0, &what, site, orders_ + (&w - warps_ + 1) * 64 + w.orders++ % 64};
}

template <class Act>
void Block::meet(uint32_t mask, const Collective& what, Site site, const Operand& operand, Act act) {
    const int warp = here.thread.x / 32, lane = here.thread.x % 32;
    Warp& w = warps_[warp];
    Meeting& m = meeting(w, mask, what, site);
    void* const order = m.order;  // of this meeting, even when others reuse its place
    w.operand[lane] = operand;
    if (what.orders) release(order);
    if ((m.arrived |= 1u << lane) == mask) {
        act(w);
        w.open &= ~(1u << (&m - w.meetings));
        wake(warp, mask);
    } else {
        sleep(what.name, site);
    }
    go_on();
    if (what.orders) acquire(order);
}

void Block::barrier(Site site) {
    if (alive_ < launch->threads) fail(site, "barrier after an exit: some threads have left the kernel");
    if (at_barrier_ && !same(site, barrier_site_))
        fail(site, "barrier divergence: others wait in another __syncthreads");
    barrier_site_ = site;
    void* const order = orders_ + barriers_ % 64;  // subtle: a fast thread may be at the next barrier already
    release(order);
    if (++at_barrier_ == alive_) {
        at_barrier_ = 0, ++barriers_;
        for (int warp = 0; warp < warp_count_; ++warp) wake(warp, warps_[warp].alive);
    } else {
        sleep("__syncthreads", site);
    }
    go_on();
    acquire(order);
}

void Block::leave() {
    Internal internal;
    const int warp = here.thread.x / 32;
    Warp& w = warps_[warp];
    const uint32_t bit = 1u << here.thread.x % 32;
    for (uint32_t open = w.open; open; open &= open - 1) {
        const Meeting& m = w.meetings[__builtin_ctz(open)];
        if (m.mask & bit) fail(m.site, "it leaves the kernel while others wait for it in %s", m.what->name);
    }
    if (at_barrier_) fail(barrier_site_, "it leaves the kernel while others wait for it in __syncthreads");
    if (const auto& left = products().under_way; !left.empty())
        fail({left[0].file, left[0].line}, "it leaves the kernel with a product that it never waited for");
    release(launch);
    sleep(nullptr, {});
    w.alive &= ~bit;
    if (--alive_ == 0) {
        for (const NamedBarrier& barrier : named_)
            if (barrier.arrived)
                fail(barrier.site, "the block ends, but %d threads arrived at barrier %d", barrier.arrived,
                     static_cast<int>(&barrier - named_));
        hand_over(running().fiber, main_);
    } else {
        go_on();
    }
    __builtin_unreachable();  // a thread that has left is never woken
}

void Block::check_shared(const void* address, const char* what, Site site) {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(here.shared);
    const bool inside = offset < launch->shared_bytes && launch->shared_bytes - offset >= 16;
    if (inside && offset % 16 == 0) return;
    const auto at = static_cast<long long>(static_cast<intptr_t>(offset));
    if (inside) fail(site, "%s at offset %lld of shared memory: not a multiple of 16", what, at);
    fail(site, "%s at offset %lld of shared memory: outside of its %zu bytes", what, at,
         launch->shared_bytes);
}

// ---- reports ----------------------------------------------------------------------------------------------

std::string Block::numbers(const std::vector<int>& threads) const {  // 0-31, 64, 66-70
    std::string all;
    for (size_t i = 0, last; i < threads.size(); i = last + 1) {
        for (last = i; last + 1 < threads.size() && threads[last + 1] == threads[last] + 1;) ++last;
        all += (all.empty() ? "" : ", ") + std::to_string(threads[i]);
        if (last > i) all += "-" + std::to_string(threads[last]);
    }
    return (threads.size() == 1 ? "thread " : "threads ") + all;
}

std::string Block::everybody() const {
    std::map<std::string, std::vector<int>> groups;
    for (int t = 0; t < launch->threads; ++t) {
        const Thread& thread = *threads_[t];
        const bool alive = warps_[t / 32].alive >> t % 32 & 1, ready = warps_[t / 32].ready >> t % 32 & 1;
        if (!alive) groups["  out of the kernel"].push_back(t);
        if (!alive || ready) continue;
        const std::string where = thread.site.file + (":" + std::to_string(thread.site.line));
        groups[std::string("  waiting in ") + thread.waits_in + " at " + where].push_back(t);
    }
    std::string all;
    for (const auto& [where, threads] : groups) all += where + ": " + numbers(threads) + "\n";
    return all;
}

void Block::fail(Site site, const char* format, ...) {
    char why[600], what[300];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    std::snprintf(why, sizeof why, "%s:%d: thread %u: %s", site.file, site.line, here.thread.x, what);
    stop(why);
}

void Block::stop(const char* why) {
    error_ = why + ("\n  block " + text(here.block)) + " of " + text(here.grid) + ", " +
             std::to_string(launch->threads) + " threads; schedule " + schedule_text(launch->schedule) +
             "\n" + everybody();
    hand_over(running().fiber, main_);
    __builtin_unreachable();
}

// ---- launches ---------------------------------------------------------------------------------------------

bool Block::run(uint64_t place) {
    const uint32_t number = launch->blocks[place];
    const unsigned threads = static_cast<unsigned>(launch->threads);
    const dim3 grid = launch->grid;
    random.state = mix(launch->schedule.seed + 0x9E3779B97F4A7C15u) ^ mix(number + 1u);
    memory_.renew();
    orders_ = reinterpret_cast<uint64_t*>(memory_.data() + ROOM) - 64 * (MAX_WARPS + 1);
    unsigned char* const shared = memory_.data() + RED_ZONE;
    std::memset(shared, 0xff, launch->shared_bytes);
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(memory_.data(), RED_ZONE);
    ASAN_POISON_MEMORY_REGION(shared + launch->shared_bytes, MAX_SHARED + RED_ZONE - launch->shared_bytes);
#endif
    const Index index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    here = {{0, 0, 0}, index, {threads, 1, 1}, {grid.x, grid.y, grid.z}, shared, launch->counting};
    alive_ = launch->threads, at_barrier_ = 0, barriers_ = 0;
    warp_count_ = (launch->threads + 31) / 32;
    for (int warp = 0; warp < warp_count_; ++warp) {
        const uint32_t lanes = launch->threads >= 32 * (warp + 1) ? ALL : ALL >> (32 - launch->threads % 32);
        warps_[warp].exist = warps_[warp].alive = warps_[warp].ready = lanes;
        warps_[warp].open = warps_[warp].orders = 0;
        warp_at_[warp] = launch->schedule.order == Order::reverse ? warp_count_ - 1 - warp : warp;
    }
    rank_warps();
    for (Products& some : products_) some.clear();
    for (auto& some : issued_) some.clear();
    for (NamedBarrier& barrier : named_) barrier = NamedBarrier();
    counting_barriers.clear();
    unpublished.begin(launch->shared_bytes, launch->threads);
    for (int t = 0; t < launch->threads; ++t) {
        Thread& thread = *threads_[t];
        thread.copies.clear(), thread.groups = 0, thread.waits_in = nullptr;
        // at different offsets in their pages, so that the stacks do not compete for the same cache sets
        prepare(thread.fiber, thread.stack, thread_main, t % 32 * 320);
    }
    here.thread.x = static_cast<unsigned>(next());
    hand_over(main_, running().fiber);
    for (int t = 0; t < launch->threads; ++t) drop(threads_[t]->fiber);
    counter.end_block();
    if (error_.empty()) return true;
    std::lock_guard<std::mutex> lock(launch->mutex);
    if (place < launch->stop) launch->stop = place, launch->report = std::move(error_);
    error_.clear();
    return false;
}

// Runs blocks of a launch, one after the other, as long as there are any.
void Block::work(Launch& of) {
    Internal internal;
    block = this, launch = &of;
    counter.traffic = {};
    adopt(main_);
    for (uint64_t place; (place = of.next++) < of.blocks.size() && place < of.stop;)
        if (!run(place)) break;
    std::lock_guard<std::mutex> lock(of.mutex);
    of.traffic += counter.traffic;
    block = nullptr;
}

// Blocks with their stacks, kept from one launch to the next.
struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Block>> idle;

    std::unique_ptr<Block> take(int threads) {
        std::unique_ptr<Block> b;
        {
            std::lock_guard<std::mutex> lock(mutex);
            if (!idle.empty()) b = std::move(idle.back()), idle.pop_back();
        }
        if (!b) b = std::make_unique<Block>();
        b->reserve(threads);
        return b;
    }
    void give_back(std::vector<std::unique_ptr<Block>>& blocks) {
        std::lock_guard<std::mutex> lock(mutex);
        for (auto& b : blocks) idle.push_back(std::move(b));
    }
};
Pool& pool = *new Pool;  // never destroyed: a launch may still be running when the program ends

std::string refusal(dim3 grid, int threads, size_t shared_bytes) {
    const auto says = [](const char* what, uint64_t is, uint64_t low, uint64_t high) {
        const std::string accepted = std::to_string(low) + " to " + std::to_string(high);
        return "illegal launch: " + std::to_string(is) + " " + what + ", accepted: " + accepted;
    };
    if (threads < 1 || threads > MAX_THREADS)
        return says("threads in a block", std::max(threads, 0), 1, MAX_THREADS);
    if (grid.x < 1 || grid.x > 0x7fffffffu) return says("blocks along x", grid.x, 1, 0x7fffffffu);
    if (grid.y < 1 || grid.y > 65535) return says("blocks along y", grid.y, 1, 65535);
    if (grid.z < 1 || grid.z > 65535) return says("blocks along z", grid.z, 1, 65535);
    if (shared_bytes > MAX_SHARED) return says("bytes of shared memory", shared_bytes, 0, MAX_SHARED);
    if (uint64_t(grid.x) * grid.y * grid.z > UINT32_MAX)
        return "more than 2^32 - 1 blocks: too many for the emulator";
    return "";
}

}  // namespace

cudaError_t run_grid(void (*body)(const void*), const void* call, dim3 grid, int threads,
                     size_t shared_bytes) {
    report = refusal(grid, threads, shared_bytes);
    if (!report.empty())
        return shared_bytes > MAX_SHARED ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration;
    Launch launch;
    launch.body = body, launch.call = call, launch.grid = grid, launch.threads = threads,
    launch.shared_bytes = shared_bytes;
    launch.schedule = current_schedule, launch.counting = counting;
    std::vector<std::unique_ptr<Block>> blocks;
    try {
        launch.blocks.resize(size_t(grid.x) * grid.y * grid.z);
        for (int i = 0; i == 0 || (i < launch.schedule.threads && size_t(i) < launch.blocks.size()); ++i)
            blocks.push_back(pool.take(threads));
    } catch (const std::bad_alloc&) {
        pool.give_back(blocks);
        report = "no memory for the emulator's stacks";
        return cudaErrorMemoryAllocation;
    }
    for (size_t i = 0; i < launch.blocks.size(); ++i) launch.blocks[i] = static_cast<uint32_t>(i);
    if (launch.schedule.order == Order::reverse) std::reverse(launch.blocks.begin(), launch.blocks.end());
    if (launch.schedule.order == Order::pct)
        Random{mix(launch.schedule.seed)}.shuffle(launch.blocks.data(), launch.blocks.size());

    std::vector<std::thread> helpers;
    try {
        for (size_t i = 1; i < blocks.size(); ++i)
            helpers.emplace_back(&Block::work, blocks[i].get(), std::ref(launch));
    } catch (const std::system_error&) {  // go on with fewer
    }
    blocks[0]->work(launch);
    for (std::thread& helper : helpers) helper.join();
    acquire(&launch);
    pool.give_back(blocks);
    report = std::move(launch.report);
    total += launch.traffic;
    return report.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

Schedule parse_schedule(const std::string& text, int threads) {
    const size_t colon = text.find(':');
    const std::string name = text.substr(0, colon),
                      seed = colon == std::string::npos ? "" : text.substr(colon + 1);
    Schedule s;
    s.threads = threads;
    s.order = name == "pct" ? Order::pct : name == "reverse" ? Order::reverse : Order::in_order;
    const bool number =
        !seed.empty() && seed.size() < 20 && seed.find_first_not_of("0123456789") == std::string::npos;
    const bool seedless = colon == std::string::npos && s.order != Order::pct;
    if (threads < 1 || !(name == "pct" || name == "reverse" || name == "in-order") || !(number || seedless))
        throw std::invalid_argument("schedule: '" + text + "' on " + std::to_string(threads) +
                                    " threads; accepted: in-order, reverse, pct:SEED, on 1 or more");
    if (number) s.seed = std::stoull(seed);
    return s;
}

std::string schedule_text(const Schedule& s) {
    const std::string seed = ":" + std::to_string(s.seed);
    if (s.order == Order::pct) return "pct" + seed;
    return (s.order == Order::reverse ? "reverse" : "in-order") + (s.seed ? seed : "");
}

void set_schedule(const Schedule& s) { current_schedule = s; }
const std::string& last_report() { return report; }
void count_traffic(bool on) { counting = on, total = {}; }
Traffic traffic() { return total; }

// ---- what threads do --------------------------------------------------------------------------------------

void note_access(const void* address, Site site) {
    Internal internal;
    const uintptr_t a = reinterpret_cast<uintptr_t>(address),
                    shared = reinterpret_cast<uintptr_t>(here.shared);
    block->counter.access(here.thread.x, a, site.file, site.line, a - shared < block->launch->shared_bytes);
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
    Internal internal;
    const int lane = here.thread.x % 32, first = lane & -width;  // of `width` lanes that exchange values
    int source = kind == Shuffle::index  ? first + (argument & (width - 1))
                 : kind == Shuffle::up   ? lane - argument
                 : kind == Shuffle::down ? lane + argument
                                         : lane ^ argument;
    if (kind == Shuffle::up ? source < first : source >= first + width) source = lane;
    uint64_t result = 0;
    block->meet(mask, SHUFFLES[static_cast<int>(kind)], site, {&result, nullptr, nullptr, value, source},
                [mask](Warp& w) {
                    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
                        const Operand& o = w.operand[__builtin_ctz(lanes)];
                        *static_cast<uint64_t*>(o.result) =
                            mask >> o.source & 1 ? w.operand[o.source].value : ~uint64_t(0);
                    }
                });
    return result;
}

static uint32_t vote(const Collective& what, unsigned mask, bool mine, Site site) {
    Internal internal;
    uint32_t result = 0;
    block->meet(mask, what, site, {&result, nullptr, nullptr, mine, 0}, [mask](Warp& w) {
        uint32_t votes = 0;
        for (uint32_t lanes = mask; lanes; lanes &= lanes - 1)
            votes |= static_cast<uint32_t>(w.operand[__builtin_ctz(lanes)].value) << __builtin_ctz(lanes);
        for (uint32_t lanes = mask; lanes; lanes &= lanes - 1)
            *static_cast<uint32_t*>(w.operand[__builtin_ctz(lanes)].result) = votes;
    });
    return result;
}

// The accesses of a copy count as the thread's own, so they are not inside Internal.
static void write16(void* to, const void* from) {
    *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
}

void copy16_async(void* shared, const void* global, Site site) {
    static const uint4 poison = {ALL, ALL, ALL, ALL};
    bool at_once;
    {
        Internal internal;
        block->check_shared(shared, "copy16_async", site);
        if (reinterpret_cast<uintptr_t>(global) % 16)
            block->fail(site, "copy16_async: the source is not a multiple of 16");
        if (here.counting) note_access(shared, site), note_access(global, site);
        Thread& me = block->running();
        at_once = block->random() % 8 == 0;
        if (!at_once) me.copies.push_back({shared, global, me.groups});
        const size_t offset = static_cast<unsigned char*>(shared) - here.shared;
        block->unpublished.copy_begins(offset, static_cast<int>(here.thread.x));
        if (at_once) block->unpublished.copy_lands(offset, static_cast<int>(here.thread.x));
    }
    const volatile char* source = static_cast<const char*>(global);
    (void)source[0], (void)source[15];  // report an error here, not at the wait
    write16(shared, at_once ? global : &poison);
}

void commit_copies() {
    Internal internal;
    ++block->running().groups;
}

void wait_copies(unsigned under_way) {
    size_t landed = 0;
    for (;; ++landed) {
        Copy copy;
        {
            Internal internal;
            Thread& me = block->running();
            if (landed == me.copies.size() || me.copies[landed].group + under_way >= me.groups) break;
            copy = me.copies[landed];
            block->unpublished.copy_lands(static_cast<unsigned char*>(copy.shared) - here.shared,
                                          static_cast<int>(here.thread.x));
        }
        write16(copy.shared, copy.global);
    }
    Internal internal;
    std::vector<Copy>& copies = block->running().copies;
    copies.erase(copies.begin(), copies.begin() + static_cast<ptrdiff_t>(landed));
}

void load_matrices(uint32_t (&r)[4], const void* row, bool transposed, Site site) {
    const Collective& what = transposed ? LOAD_TRANSPOSED : LOAD;
    {
        Internal internal;
        block->check_shared(row, what.name, site);
    }
    uint32_t mine[4];  // the row that this lane gives
    std::memcpy(mine, row, 16);
    Internal internal;
    if ((mine[0] & mine[1] & mine[2] & mine[3]) == ALL)
        block->fail(site, "%s reads 16 bytes of shared memory that were not written yet", what.name);
    block->meet(ALL, what, site, {&r, mine, row, 0, 0}, [transposed](Warp& w) {
        const auto word = [&w](int lane, int i) {
            return static_cast<const uint32_t*>(w.operand[lane].a)[i];
        };
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = lane % 4, half = 16 * (g % 2);
            uint32_t* const to = static_cast<uint32_t*>(w.operand[lane].result);
            for (int j = 0; j < 4; ++j)
                if (transposed) {
                    const uint32_t first = word(8 * j + 2 * t, g / 2),
                                   second = word(8 * j + 2 * t + 1, g / 2);
                    to[j] = (first >> half & 0xffff) | second >> half << 16;
                } else {
                    to[j] = word(8 * j + g, t);
                }
        }
        for (int j = 0; j < 4 && here.counting; ++j) {
            uintptr_t rows[8];
            for (int i = 0; i < 8; ++i) rows[i] = reinterpret_cast<uintptr_t>(w.operand[8 * j + i].b);
            block->counter.matrix(rows);
        }
    });
}

// d += a b: gather the matrices from the lanes (mma.cuh says what each holds), multiply, scatter.
template <class Value>
static void multiply_warp(Warp& w, Value value) {
    using Row __attribute__((vector_size(32))) = float;  // 8 columns, multiplied and added at once
    uint32_t a_pairs[16 * 8], b_pairs[8][8];             // two neighbours of a row of a, of a column of b
    float a[16 * 16];
    Row b[16], d[16];
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const Operand& o = w.operand[lane];
        for (int i = 0; i < 4; ++i)
            a_pairs[8 * (g + 8 * (i % 2)) + t + 4 * (i / 2)] = static_cast<const uint32_t*>(o.a)[i];
        for (int i = 0; i < 2; ++i) b_pairs[t + 4 * i][g] = static_cast<const uint32_t*>(o.b)[i];
        for (int i = 0; i < 4; ++i)
            d[g + 8 * (i / 2)][2 * t + i % 2] = static_cast<const float*>(o.result)[i];
    }
    const auto low = [value](uint32_t pair) { return value(static_cast<uint16_t>(pair)); };
    const auto high = [value](uint32_t pair) { return value(static_cast<uint16_t>(pair >> 16)); };
    for (int i = 0; i < 16 * 8; ++i) a[2 * i] = low(a_pairs[i]), a[2 * i + 1] = high(a_pairs[i]);
    for (int k = 0; k < 8; ++k)
        for (int n = 0; n < 8; ++n) b[2 * k][n] = low(b_pairs[k][n]), b[2 * k + 1][n] = high(b_pairs[k][n]);
    for (int m = 0; m < 16; ++m)
        for (int k = 0; k < 16; ++k) d[m] += a[16 * m + k] * b[k];
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i)
            static_cast<float*>(w.operand[lane].result)[i] =
                d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
}

void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_f16, Site site) {
    Internal internal;
    block->meet(ALL, is_f16 ? MULTIPLY_F16 : MULTIPLY_BF16, site, {&d, &a, &b, 0, 0}, [is_f16](Warp& w) {
        if (is_f16) {
            multiply_warp(w, [](uint16_t x) { return f16_value(x); });
        } else {
            multiply_warp(w, [](uint16_t x) { return bf16_value(x); });
        }
    });
}

// ---- Hopper -----------------------------------------------------------------------------------------------

uint32_t shared_address(const void* p) {
    return SHARED_BASE + static_cast<uint32_t>(static_cast<const unsigned char*>(p) - here.shared);
}

// ThreadSanitizer: the lanes of this warp share in reading what their product reads.
static void touch(const Product& product) {
#ifdef __SANITIZE_THREAD__
    std::vector<uint32_t> mine;
    {
        Internal internal;
        product.each_chunk([&](uint32_t address, int n) {
            if (n % 32 == static_cast<int>(here.thread.x % 32)) mine.push_back(address - SHARED_BASE);
        });
    }
    for (size_t i = 0; i < mine.size(); ++i) {
        const volatile uint64_t* at = reinterpret_cast<const volatile uint64_t*>(here.shared + mine[i]);
        (void)at[0], (void)at[1];
    }
#else
    (void)product;
#endif
}

// Checks the operands of the youngest product, keeps a copy, and takes its sums out of the registers.
void Block::begin_product(Product& product, Site site) {
    Products& mine = products();
    if (!mine.ready) fail(site, "multiply_group without start_products");
    for (const uint64_t place : {product.a[0] ? product.b_place : product.a_place, product.b_place})
        if (!MatrixPlace(place).valid) fail(site, "multiply_group: not a matrix with the 128-byte swizzle");
    product.each_chunk([&](uint32_t address, int) {
        check_shared(here.shared + (static_cast<int64_t>(address) - SHARED_BASE), "multiply_group", site);
        if (const int owner = unpublished.owner(address - SHARED_BASE); owner >= 0)
            fail(site, "multiply_group: thread %d has not made its copy visible (publish_copies)", owner);
    });
    product.operands = product.read(here.shared);
    for (size_t i = product.a[0] ? 4 * Product::CHUNKS_OF_A : 0; i < product.operands.size(); i += 4) {
        const uint32_t* const x = &product.operands[i];
        if ((x[0] & x[1] & x[2] & x[3]) == ALL)
            fail(site, "multiply_group reads 16 bytes of shared memory that were not written yet");
    }
    for (const Product& other : mine.under_way)
        if (other.d[0] == product.d[0] && &other != &product) product.sums = other.sums;
    if (!product.sums) {
        product.sums = std::make_shared<std::vector<float>>(16 * product.columns);
        product.each_sum([](float& held, float& sum) { sum = held, held = __uint_as_float(ALL); });
    }
    std::vector<Issued>& issued = issued_[here.thread.x / 128];
    const Issued one = {site.line, product.a_place, product.b_place};
    if (mine.begun == issued.size()) issued.push_back(one);
    if (!(issued[mine.begun++] == one))
        fail(site, "multiply_group: the warps of a group compute different products");
}

void Block::land_products(Products& of, unsigned under_way, Site site) {
    size_t landed = 0;
    for (; landed < of.under_way.size() && of.under_way[landed].group + under_way < of.groups; ++landed) {
        const Product& product = of.under_way[landed];
        if (product.read(here.shared) != product.operands)
            fail(site, "operands of the multiply_group at line %d were written before it was waited for",
                 product.line);
        if (product.is_f16) product.multiply([](uint16_t x) { return f16_value(x); });
        else product.multiply([](uint16_t x) { return bf16_value(x); });
    }
    for (size_t i = 0; i < landed; ++i) {
        bool last = true;
        for (size_t later = i + 1; later < of.under_way.size(); ++later)
            last = last && of.under_way[later].sums != of.under_way[i].sums;
        if (last) of.under_way[i].each_sum([](float& held, float sum) { held = sum; });
    }
    of.under_way.erase(of.under_way.begin(), of.under_way.begin() + static_cast<ptrdiff_t>(landed));
}

void multiply_group(float* d, int columns, const uint32_t* a, Matrix a_place, Matrix b, bool transposed,
                    bool add, bool is_f16, Site site) {
    {
        Product mine = {};
        {
            Internal internal;
            mine.columns = columns, mine.transposed = transposed, mine.a_place = a_place, mine.b_place = b;
            mine.a[0] = a, mine.first_row = here.thread.x / 32 % 4 * 16;
            if (block->launch->threads % 128)
                block->fail(site, "multiply_group needs warpgroups of 128 threads");
            if (!MatrixPlace(b).valid)
                block->fail(site, "multiply_group: not a matrix with the 128-byte swizzle");
            mine.each_chunk([&](uint32_t address, int) {
                block->check_shared(here.shared + (static_cast<int64_t>(address) - SHARED_BASE),
                                    "multiply_group", site);
            });
        }
        touch(mine);
    }
    Internal internal;
    block->meet(ALL, PRODUCT, site, {d, a, nullptr, a_place ^ b << 1, 0}, [&](Warp& w) {
        // subtle: a report drops this fiber, so nothing here may own memory
        Product& product = block->products().under_way.emplace_back();
        product.file = site.file, product.line = site.line, product.group = block->products().groups;
        product.columns = columns, product.first_row = here.thread.x / 32 % 4 * 16;
        product.transposed = transposed, product.add = add, product.is_f16 = is_f16;
        product.a_place = a_place, product.b_place = b;
        for (int lane = 0; lane < 32; ++lane) {
            if (w.operand[lane].value != (a_place ^ b << 1))
                block->fail(site, "multiply_group: the lanes of a warp name different matrices");
            product.a[lane] = static_cast<const uint32_t*>(w.operand[lane].a);
            product.d[lane] = static_cast<float*>(w.operand[lane].result);
        }
        block->begin_product(product, site);
    });
}

void start_products(Site site) {
    Internal internal;
    block->meet(ALL, START, site, {}, [](Warp&) { block->products().ready = true; });
}

void end_products(Site site) {
    Internal internal;
    block->meet(ALL, END, site, {},
                [](Warp&) { ++block->products().groups, block->products().ready = false; });
}

void wait_products(unsigned under_way, Site site) {
    size_t count = 0;
    const std::vector<Product>* some;
    {
        Internal internal;
        some = &block->products().under_way;
        while (count < some->size() && (*some)[count].group + under_way < block->products().groups) ++count;
    }
    for (size_t i = 0; i < count; ++i) touch((*some)[i]);
    Internal internal;
    block->meet(ALL, WAIT, site, {},
                [&](Warp&) { block->land_products(block->products(), under_way, site); });
}

void publish_copies() {
    Internal internal;
    block->unpublished.publish(static_cast<int>(here.thread.x));
}

CountingBarrier& Block::counting_barrier(uint64_t* at, const char* what, Site site) {
    const auto found = counting_barriers.find(at);
    if (found == counting_barriers.end())
        fail(site, "%s of a barrier that has no count (barrier_init)", what);
    return found->second;
}

void Block::arrive(CountingBarrier& barrier) {
    release(&barrier.order[barrier.phase % 2]);
    if (--barrier.missing) return;
    barrier.missing = barrier.expected, ++barrier.phase;
    for (const int thread : barrier.threads) wake(thread / 32, 1u << thread % 32);
    barrier.threads.clear();
}

void Block::wait(CountingBarrier& barrier, int parity, Site site) {
    while (static_cast<int>(barrier.phase % 2) == parity) {
        barrier.threads.push_back(static_cast<int>(here.thread.x));
        sleep("barrier_wait", site);
        go_on();
    }
    acquire(&barrier.order[parity]);
}

void Block::named_barrier(int name, int threads, bool waits, Site site) {
    const char* const what = waits ? "group_sync" : "group_arrive";
    if (name < 1 || name > 15) fail(site, "%s: name %d, accepted: 1 to 15", what, name);
    if (threads < 32 || threads % 32 || threads > launch->threads)
        fail(site, "%s: %d threads, accepted: whole warps of this block", what, threads);
    NamedBarrier& barrier = named_[name];
    if (barrier.arrived && barrier.threads_of != threads)
        fail(site, "%s: %d threads, others say %d", what, threads, barrier.threads_of);
    barrier.threads_of = threads, barrier.site = site;
    void* const order = &barrier.order[barrier.times % 2];
    release(order);
    if (++barrier.arrived == threads) {
        barrier.arrived = 0, ++barrier.times;
        for (const int thread : barrier.threads) wake(thread / 32, 1u << thread % 32);
        barrier.threads.clear();
    } else if (waits) {
        barrier.threads.push_back(static_cast<int>(here.thread.x));
        sleep(what, site);
    }
    if (!waits) return;
    go_on();
    acquire(order);
}

// The thread that gives a barrier its count writes it, and the others read it: who does not wait for the
// first has a race.
void barrier_init(uint64_t* barrier, int arrivals, Site site) {
    {
        Internal internal;
        if (reinterpret_cast<uintptr_t>(barrier) % 8)
            block->fail(site, "barrier_init: not a multiple of 8 bytes");
        if (arrivals < 1) block->fail(site, "barrier_init: %d arrivals, at least 1 is needed", arrivals);
        CountingBarrier& mine = block->counting_barriers[barrier];
        mine.expected = mine.missing = arrivals, mine.phase = 0;
    }
    *barrier = static_cast<uint64_t>(arrivals);
}

void barrier_arrive(uint64_t* barrier, Site site) {
    (void)*static_cast<const volatile uint64_t*>(barrier);
    Internal internal;
    block->arrive(block->counting_barrier(barrier, "barrier_arrive", site));
}

void barrier_wait(uint64_t* barrier, int parity, Site site) {
    (void)*static_cast<const volatile uint64_t*>(barrier);
    Internal internal;
    block->wait(block->counting_barrier(barrier, "barrier_wait", site), parity, site);
}

bool barrier_done(uint64_t* barrier, int parity, Site site) {
    (void)*static_cast<const volatile uint64_t*>(barrier);
    Internal internal;
    CountingBarrier& mine = block->counting_barrier(barrier, "barrier_done", site);
    const bool done = static_cast<int>(mine.phase % 2) != parity;
    if (done) acquire(&mine.order[parity]);
    return done;
}

void group_sync(int name, int threads, Site site) {
    Internal internal;
    block->named_barrier(name, threads, true, site);
}

void group_arrive(int name, int threads, Site site) {
    Internal internal;
    block->named_barrier(name, threads, false, site);
}

}  // namespace emulated
}  // namespace minglm

using namespace minglm::emulated;

void __syncthreads(Site site) {
    Internal internal;
    block->barrier(site);
}

void __syncwarp(unsigned mask, Site site) {
    Internal internal;
    block->meet(mask, SYNCWARP, site, {}, [](Warp&) {});
}

unsigned __ballot_sync(unsigned mask, int predicate, Site site) {
    return vote(VOTES[0], mask, predicate != 0, site);
}
int __any_sync(unsigned mask, int predicate, Site site) {
    return vote(VOTES[1], mask, predicate != 0, site) != 0;
}
int __all_sync(unsigned mask, int predicate, Site site) {
    return vote(VOTES[2], mask, predicate != 0, site) == mask;
}
