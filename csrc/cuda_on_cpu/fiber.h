// A fiber: a function with its own stack, which runs until it hands over to another fiber of the same OS
// thread. Only simt.cpp uses it. Handing over takes a dozen instructions on x86-64, and system calls
// elsewhere (ucontext).
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if !defined(__x86_64__) && !defined(MINGLM_UCONTEXT)
#define MINGLM_UCONTEXT
#endif
#ifdef MINGLM_UCONTEXT
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

namespace minglm {
namespace emulated {

// ---- ThreadSanitizer sees every fiber as a thread, whose accesses are ordered only by barriers ------------

#ifdef __SANITIZE_THREAD__
inline void ignore_begin() { AnnotateIgnoreReadsBegin("", 0), AnnotateIgnoreWritesBegin("", 0); }
inline void ignore_end() { AnnotateIgnoreWritesEnd("", 0), AnnotateIgnoreReadsEnd("", 0); }
// What a fiber did before release comes before what others do after a later acquire of the same address.
inline void release(void* order) { __tsan_release(order); }
inline void acquire(void* order) { __tsan_acquire(order); }
#else
inline void ignore_begin() {}
inline void ignore_end() {}
inline void release(void*) {}
inline void acquire(void*) {}
#endif

// While one exists, the accesses of this fiber are the emulator's own: many fibers share its tables.
struct Internal {
    Internal() { ignore_begin(); }
    ~Internal() { ignore_end(); }
};

// ---- memory -----------------------------------------------------------------------------------------------

// Pages with an inaccessible one on both sides.
class Pages {
public:
    explicit Pages(size_t bytes) : bytes_(bytes) { map(); }
    Pages(Pages&& other) noexcept : bytes_(other.bytes_), mapped_(other.mapped_) { other.mapped_ = nullptr; }
    ~Pages() { unmap(); }
    unsigned char* data() const { return mapped_ + page(); }
    size_t size() const { return bytes_; }
    void renew() {  // sanitizers: forget who wrote here, and what was out of bounds
#if defined(__SANITIZE_THREAD__)
        unmap(), map();
#elif defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(data(), bytes_);
#endif
    }

private:
    static size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
    void map() {
        void* all =
            mmap(nullptr, bytes_ + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (all == MAP_FAILED) throw std::bad_alloc();
        mapped_ = static_cast<unsigned char*>(all);
        if (mprotect(data(), bytes_, PROT_READ | PROT_WRITE) != 0) unmap(), throw std::bad_alloc();
    }
    void unmap() {
        if (mapped_) munmap(mapped_, bytes_ + 2 * page());
        mapped_ = nullptr;
    }
    size_t bytes_;
    unsigned char* mapped_ = nullptr;
};

// ---- fibers -----------------------------------------------------------------------------------------------

struct Fiber {
#ifdef MINGLM_UCONTEXT
    ucontext_t context;
#else
    void* stack_pointer = nullptr;
#endif
#ifdef __SANITIZE_ADDRESS__
    const void* bottom = nullptr;
    size_t size = 0;
    void* fake_stack = nullptr;
#endif
#ifdef __SANITIZE_THREAD__
    void* tsan = nullptr;
#endif
};

#ifndef MINGLM_UCONTEXT
// Push the registers that a function must preserve, swap stacks, pop those of the other fiber.
extern "C" void minglm_swap_stacks(void** from, void* to);
asm(R"(
    .text
    .type minglm_swap_stacks, @function
minglm_swap_stacks:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size minglm_swap_stacks, .-minglm_swap_stacks
)");
#endif

// Make the OS thread itself a fiber, to hand over from it and back to it.
inline void adopt(Fiber& fiber) {
    (void)fiber;
#ifdef __SANITIZE_ADDRESS__
    pthread_attr_t attributes;
    void* bottom;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &bottom, &fiber.size);
    pthread_attr_destroy(&attributes);
    fiber.bottom = bottom;
#endif
#ifdef __SANITIZE_THREAD__
    fiber.tsan = __tsan_get_current_fiber();
#endif
}

// The fiber will begin with entry(), which never returns. skip: bytes left free above its first frame.
inline void prepare(Fiber& fiber, Pages& stack, void (*entry)(), size_t skip) {
    stack.renew();
    const size_t size = stack.size() - skip;
#ifdef MINGLM_UCONTEXT
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack.data();
    fiber.context.uc_stack.ss_size = size;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#else
    // from above: no caller, entry, six registers
    void** top = reinterpret_cast<void**>(stack.data() + size);
    for (int i = 1; i <= 8; ++i) top[-i] = nullptr;
    top[-2] = reinterpret_cast<void*>(entry);
    fiber.stack_pointer = top - 8;
#endif
#ifdef __SANITIZE_ADDRESS__
    fiber.bottom = stack.data(), fiber.size = stack.size(), fiber.fake_stack = nullptr;
#endif
#ifdef __SANITIZE_THREAD__
    fiber.tsan = __tsan_create_fiber(0);
#endif
}

// Switch to another fiber; return when one switches back to this one. Both are inside the emulator (struct
// Internal).
#ifdef __SANITIZE_THREAD__
__attribute__((noinline, no_sanitize_thread))
#endif
inline void hand_over(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
#ifdef __SANITIZE_THREAD__
    ignore_end();
    __tsan_switch_to_fiber(to.tsan, 1);  // 1: switching orders no accesses
#endif
#ifdef MINGLM_UCONTEXT
    swapcontext(&from.context, &to.context);
#else
    minglm_swap_stacks(&from.stack_pointer, to.stack_pointer);
#endif
#ifdef __SANITIZE_THREAD__
    ignore_begin();
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The first call of entry().
inline void begun() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

// Drop a fiber, wherever it is.
inline void drop(Fiber& fiber) {
    (void)fiber;
#ifdef __SANITIZE_THREAD__
    if (fiber.tsan) __tsan_destroy_fiber(fiber.tsan);
    fiber.tsan = nullptr;
#endif
}

}  // namespace emulated
}  // namespace minglm
