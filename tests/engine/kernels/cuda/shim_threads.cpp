// The threads and barriers behind shim.h where a sanitizer watches them; otherwise shim_fibers.cpp.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "shim.h"

__thread dim3 threadIdx, blockIdx;
__thread unsigned linear_thread;
dim3 blockDim, gridDim;
unsigned char* shared_bytes;
unsigned shared_size;

static std::unique_ptr<std::barrier<>> of_block;
static std::vector<std::unique_ptr<std::barrier<>>> of_warp;

void __syncthreads() { of_block->arrive_and_wait(); }
void meet_warp() { of_warp[linear_thread / 32]->arrive_and_wait(); }

void start(const unsigned* grid, const unsigned* block, unsigned shared,
           void (*kernel)(const void*), const void* arguments) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const unsigned count = block[0] * block[1] * block[2];
    of_block = std::make_unique<std::barrier<>>(count);
    of_warp.clear();
    for (unsigned first = 0; first < count; first += 32)
        of_warp.push_back(std::make_unique<std::barrier<>>(count - first < 32 ? count - first : 32));
    begin_copies();
    shared_size = shared;
    shared_bytes = static_cast<unsigned char*>(std::aligned_alloc(128, (shared + 128) & ~127u));
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < count; t++)
        threads.emplace_back([=] {
            linear_thread = t;
            threadIdx = {t % block[0], t / block[0] % block[1], t / (block[0] * block[1])};
            for (unsigned z = 0; z < grid[2]; z++)
                for (unsigned y = 0; y < grid[1]; y++)
                    for (unsigned x = 0; x < grid[0]; x++) {
                        blockIdx = {x, y, z};
                        if (t == 0 && shared) std::memset(shared_bytes, 0xff, shared);  // NaN
                        __syncthreads();
                        kernel(arguments);
                        __syncthreads();  // shared memory belongs to one block at a time
                    }
        });
    for (auto& thread : threads) thread.join();
    std::free(shared_bytes);
}

#endif
