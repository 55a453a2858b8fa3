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
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#ifndef _WIN32
#include <pthread.h>
#endif

namespace minglm {

const char* cpu_threads_by() { return "std::thread"; }

namespace {

// Threads that sleep between calls, because starting one takes longer than a small call. Never joined.
class Pool {
public:
    // Calls work(0) here, and work(1), work(2), ... on up to threads - 1 others.
    void run(int threads, const std::function<void(int)>& work) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            try {
                for (; size_ < threads - 1; ++size_) std::thread(&Pool::serve, this, size_ + 1).detach();
            } catch (const std::system_error&) {  // the system has no more threads: go on with fewer
            }
            wanted_ = left_ = size_ < threads - 1 ? size_ : threads - 1;
            work_ = &work;
            ++call_;
        }
        wake_.notify_all();
        work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [&] { return left_ == 0; });
    }

    std::mutex busy;  // held by the call that the pool serves

private:
    void serve(int number) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (uint64_t served = 0;;) {
            wake_.wait(lock, [&] { return call_ != served; });
            served = call_;
            if (number > wanted_) continue;
            lock.unlock();
            (*work_)(number);
            lock.lock();
            if (--left_ == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(int)>* work_ = nullptr;
    uint64_t call_ = 0;
    int size_ = 0, wanted_ = 0, left_ = 0;
};

std::atomic<Pool*> pool{nullptr};

// subtle: a forked process has the pool but not its threads, and perhaps locks that nobody will release
Pool& this_process() {
    static const bool once = [] {
        pool = new Pool;
#ifndef _WIN32
        pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif
        return true;
    }();
    (void)once;
    return *pool;
}

}  // namespace

void parallel_for(int threads, int64_t tasks, const std::function<void(int64_t, int)>& work) {
    std::atomic<int64_t> next{0};
    const auto run = [&](int thread) {
        for (int64_t task; (task = next.fetch_add(1)) < tasks;) work(task, thread);
    };
    if (threads > tasks) threads = static_cast<int>(tasks);
    if (threads <= 1) return run(0);
    Pool& threads_here = this_process();
    // calls that come at the same time compute alone: the cores are busy
    const std::unique_lock<std::mutex> mine(threads_here.busy, std::try_to_lock);
    mine ? threads_here.run(threads, run) : run(0);
}

}  // namespace minglm

#endif
