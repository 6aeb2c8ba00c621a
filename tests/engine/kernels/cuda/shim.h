// CUDA's words for a C++ compiler: a kernel runs on the processor, a thread for each CUDA thread of a
// block, the blocks one after the other. What is behind them is in shim_fibers.cpp, shim_threads.cpp and,
// for tensor cores, shim_tensor.cpp, compiled once; other headers here would take longer than a kernel.
#pragma once

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

// of float and of double, as in CUDA
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline float exp(float x) { return __builtin_expf(x); }
inline double exp(double x) { return __builtin_exp(x); }
inline float log(float x) { return __builtin_logf(x); }
inline double log(double x) { return __builtin_log(x); }

inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }

struct dim3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};

extern __thread dim3 threadIdx, blockIdx;
extern __thread unsigned linear_thread;  // within the block
extern dim3 blockDim, gridDim;
extern unsigned char* shared_bytes;  // those that the launch gave
extern unsigned shared_size;
#define dynamic_shared reinterpret_cast<uint4*>(shared_bytes)

void __syncthreads();
void meet_warp();
void begin_copies();  // of a launch: none is under way
void start(const unsigned* grid, const unsigned* block, unsigned shared,
           void (*kernel)(const void*), const void* arguments);

template <class Kernel>
void run(const unsigned* grid, const unsigned* block, unsigned shared, const Kernel& kernel) {
    start(
        grid, block, shared, [](const void* it) { (*static_cast<const Kernel*>(it))(); }, &kernel);
}

// Words of pipeline.cuh and tensor_core.cuh, after the PTX ISA.
void copy_16(void* to, const void* from, bool real);
void close_group();
void wait_for_groups(unsigned latest);
template <int LATEST>
inline void wait_for_all_but() {
    wait_for_groups(LATEST);
}
void load_matrices(unsigned (&r)[4], const void* row);
void load_matrices_turned(unsigned (&r)[4], const void* row);
unsigned tf32(float x);
void multiply_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
void multiply_tf32(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
