// The emulator's half of cuda/hopper_device.h, which explains each function. Include it through that file.
//
// Each warp computes its own 16 rows of a warpgroup's product: on a GPU, too, the four warps of a group do
// not wait for each other there. A product reads its operands twice, when it begins and when it is waited
// for, and they must be the same: so shared memory that is refilled too early and registers that are packed
// too early are reported, whatever the schedule. Until the wait its registers are NaN.
//
// Reported as well: operands that nothing has written, or that publish_copies has not made visible;
// descriptors of another kind, or outside of shared memory; products without start_products, or that nobody
// waits for; warps of a group that compute different products; counting barriers without a count; named
// barriers with different numbers of threads. A thread that sleeps at a counting barrier looks again when it
// wakes, and finds a barrier that has gone on twice closed, as on a GPU.
#pragma once
#include "simt.h"

namespace minglm {
namespace emulated {

uint32_t shared_address(const void* p);  // as on a GPU, shared memory does not begin at 0

using Matrix = uint64_t;

void multiply_group(float* d, int columns, const uint32_t* a, Matrix a_place, Matrix b, bool transposed,
                    bool add, bool is_f16, Site site);
void start_products(Site site = Site::get());
void end_products(Site site = Site::get());
void wait_products(unsigned under_way, Site site);
void publish_copies();
void barrier_init(uint64_t* barrier, int arrivals, Site site = Site::get());
void barrier_arrive(uint64_t* barrier, Site site = Site::get());
void barrier_wait(uint64_t* barrier, int parity, Site site = Site::get());
bool barrier_done(uint64_t* barrier, int parity, Site site = Site::get());
void group_sync(int name, int threads, Site site = Site::get());
void group_arrive(int name, int threads, Site site = Site::get());

template <class T>
constexpr bool is_f16 = std::is_same<T, f16>::value;

template <class T, int R>
void multiply_group(float (&d)[R][4], Matrix a, Matrix b, bool add, Site site = Site::get()) {
    multiply_group(d[0], R * 8, nullptr, a, b, false, add, is_f16<T>, site);
}
template <class T, int R>
void multiply_group_transposed(float (&d)[R][4], const uint32_t (&a)[4], Matrix b, Site site = Site::get()) {
    multiply_group(d[0], R * 8, a, 0, b, true, true, is_f16<T>, site);
}
template <int N>
void wait_products(Site site = Site::get()) {
    wait_products(static_cast<unsigned>(N), site);
}
template <int R>
void pin(float (&)[R][4]) {}
inline void computed(float) {}
template <int N>
void fewer_registers() {}
template <int N>
void more_registers() {}

}  // namespace emulated
}  // namespace minglm
