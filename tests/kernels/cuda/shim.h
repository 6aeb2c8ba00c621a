// CUDA's words for a C++ compiler: a kernel runs on the processor, a thread for each CUDA thread of a
// block, the blocks one after the other. Enough for shared memory and __syncthreads(); tensor cores are
// in shim_tensor.h.
#pragma once
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::exp, std::log, std::sqrt;  // of float and of double, as in CUDA

inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

struct Free {
    void operator()(unsigned char* bytes) const { std::free(bytes); }
};

static thread_local dim3 threadIdx, blockIdx;
static thread_local unsigned linear_thread;  // within the block
static dim3 blockDim, gridDim;
static std::unique_ptr<std::barrier<>> of_block;
static std::vector<std::unique_ptr<std::barrier<>>> of_warp;
static std::unique_ptr<unsigned char, Free> shared_bytes;  // those that the launch gave
static unsigned shared_size;

static inline void __syncthreads() { of_block->arrive_and_wait(); }
[[maybe_unused]] static inline void meet_warp() { of_warp[linear_thread / 32]->arrive_and_wait(); }

template <class Kernel>
void run(const unsigned* grid, const unsigned* block, unsigned shared, const Kernel& kernel) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const unsigned count = block[0] * block[1] * block[2];
    of_block = std::make_unique<std::barrier<>>(count);
    of_warp.clear();
    for (unsigned first = 0; first < count; first += 32)
        of_warp.push_back(std::make_unique<std::barrier<>>(count - first < 32 ? count - first : 32));
    shared_size = shared;
    shared_bytes.reset(static_cast<unsigned char*>(std::aligned_alloc(128, (shared + 128) & ~127u)));
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < count; t++)
        threads.emplace_back([=, &kernel] {
            linear_thread = t;
            threadIdx = {t % block[0], t / block[0] % block[1], t / (block[0] * block[1])};
            for (unsigned z = 0; z < grid[2]; z++)
                for (unsigned y = 0; y < grid[1]; y++)
                    for (unsigned x = 0; x < grid[0]; x++) {
                        blockIdx = {x, y, z};
                        if (t == 0 && shared) std::memset(shared_bytes.get(), 0xff, shared);  // NaN
                        __syncthreads();
                        kernel();
                        __syncthreads();  // shared memory belongs to one block at a time
                    }
        });
    for (auto& thread : threads) thread.join();
}

#include "shim_tensor.h"
