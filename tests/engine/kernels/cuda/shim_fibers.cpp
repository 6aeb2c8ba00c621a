// The threads behind shim.h, in turns: each runs up to a barrier, where the next one goes on. Many more
// threads than the processor has would spend their time waking each other. Which thread is first is
// always the same, so what depends on it is seen by a sanitizer alone, with shim_threads.cpp.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "shim.h"

__thread dim3 threadIdx, blockIdx;
__thread unsigned linear_thread;
dim3 blockDim, gridDim;
unsigned char* shared_bytes;
unsigned shared_size;

enum State { RUNS, WAITS_FOR_WARP, WAITS_FOR_BLOCK, DONE };

struct Fiber {
    ucontext_t context;
    State state;
    dim3 index;
};

static constexpr unsigned STACK = 1 << 17;  // bytes; memory is taken where it is touched
static std::vector<Fiber> fibers;
static std::unique_ptr<char[]> stacks;
static unsigned stacks_for;
static ucontext_t scheduler;
static unsigned current;
static void (*of_launch)(const void*);
static const void* arguments_of_launch;

static void leave(State state) {
    fibers[current].state = state;
    swapcontext(&fibers[current].context, &scheduler);
}

void __syncthreads() { leave(WAITS_FOR_BLOCK); }
void meet_warp() { leave(WAITS_FOR_WARP); }

static void live() {
    for (;;) {  // a block each time
        of_launch(arguments_of_launch);
        leave(DONE);
    }
}

// Those of first ... last - 1 go on if all that are not done wait for the same; whether they do.
static bool release(unsigned first, unsigned last, State waiting) {
    bool any = false;
    for (unsigned t = first; t < last; t++) {
        if (fibers[t].state != waiting && fibers[t].state != DONE) return false;
        any |= fibers[t].state == waiting;
    }
    for (unsigned t = first; t < last; t++)
        if (fibers[t].state == waiting) fibers[t].state = RUNS;
    return any;
}

static void run_block() {
    const unsigned count = fibers.size();
    for (Fiber& fiber : fibers) fiber.state = RUNS;
    for (;;) {
        for (current = 0; current < count; current++)
            if (fibers[current].state == RUNS) {
                linear_thread = current, threadIdx = fibers[current].index;
                swapcontext(&scheduler, &fibers[current].context);
            }
        bool any = release(0, count, WAITS_FOR_BLOCK), done = true;
        for (unsigned t = 0; t < count; t += 32)
            any |= release(t, t + 32 < count ? t + 32 : count, WAITS_FOR_WARP);
        for (const Fiber& fiber : fibers) done &= fiber.state == DONE;
        if (done) return;
        if (!any) {
            std::fprintf(stderr, "a GPU would hang here: threads wait for different barriers\n");
            std::abort();
        }
    }
}

void start(const unsigned* grid, const unsigned* block, unsigned shared,
           void (*kernel)(const void*), const void* arguments) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const unsigned count = block[0] * block[1] * block[2];
    of_launch = kernel, arguments_of_launch = arguments;
    if (count > stacks_for) stacks.reset(new char[std::size_t(count) * STACK]), stacks_for = count;
    fibers.resize(count);
    for (unsigned t = 0; t < count; t++) {
        Fiber& fiber = fibers[t];
        fiber.index = {t % block[0], t / block[0] % block[1], t / (block[0] * block[1])};
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks.get() + std::size_t(t) * STACK;
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, live, 0);
    }
    begin_copies();
    shared_size = shared;
    shared_bytes = static_cast<unsigned char*>(std::aligned_alloc(128, (shared + 128) & ~127u));
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                std::memset(shared_bytes, 0xff, shared);  // NaN
                run_block();
            }
    std::free(shared_bytes);
}

#endif
