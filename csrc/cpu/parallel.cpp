#include "parallel.h"

#include "cpu.h"

#if defined(_OPENMP) && !defined(MINGLM_STD_THREAD)
#include <omp.h>

namespace minglm {

const char* cpu_threads_by() { return "OpenMP"; }

void parallel_for(int threads, int64_t tasks, const std::function<void(int64_t, int)>& work) {
    if (threads > tasks) threads = static_cast<int>(tasks);
    if (threads <= 1) {
        for (int64_t task = 0; task < tasks; ++task) work(task, 0);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) work(task, omp_get_thread_num());
}

}  // namespace minglm

#else
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace minglm {

const char* cpu_threads_by() { return "std::thread"; }

void parallel_for(int threads, int64_t tasks, const std::function<void(int64_t, int)>& work) {
    std::atomic<int64_t> next{0};
    const auto run = [&](int thread) {
        for (int64_t task; (task = next.fetch_add(1)) < tasks;) work(task, thread);
    };
    if (threads > tasks) threads = static_cast<int>(tasks);
    std::vector<std::thread> others;
    try {
        for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
    } catch (const std::system_error&) {  // the system has no more threads: go on with fewer
    }
    run(0);
    for (auto& other : others) other.join();
}

}  // namespace minglm

#endif
