// One thread pool for the process: OpenMP's, which on Linux is the one that torch uses, or threads of our own
// if there is no OpenMP.
#pragma once
#include <cstdint>
#include <functional>

namespace minglm {

// Calls work(task, thread) once for every task 0 .. tasks - 1, each on the next free of `threads` threads.
void parallel_for(int threads, int64_t tasks, const std::function<void(int64_t task, int thread)>& work);

}  // namespace minglm
