// CUDA's words for a C++ compiler: a kernel runs on the processor, a thread for each CUDA thread of a
// block, the blocks one after the other. Enough for shared memory and __syncthreads().
#pragma once
#include <barrier>
#include <bit>
#include <cmath>
#include <memory>
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

static thread_local dim3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static std::unique_ptr<std::barrier<>> of_block;

static inline void __syncthreads() { of_block->arrive_and_wait(); }

template <class Kernel>
void run(const unsigned* grid, const unsigned* block, const Kernel& kernel) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const unsigned count = block[0] * block[1] * block[2];
    of_block = std::make_unique<std::barrier<>>(count);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < count; t++)
        threads.emplace_back([=, &kernel] {
            threadIdx = {t % block[0], t / block[0] % block[1], t / (block[0] * block[1])};
            for (unsigned z = 0; z < grid[2]; z++)
                for (unsigned y = 0; y < grid[1]; y++)
                    for (unsigned x = 0; x < grid[0]; x++) {
                        blockIdx = {x, y, z};
                        kernel();
                        __syncthreads();  // shared memory belongs to one block at a time
                    }
        });
    for (auto& thread : threads) thread.join();
}
