// Copies from global to shared memory that go on while a thread does something else, 16 bytes at a
// time (PTX ISA: cp.async). A thread closes what it has asked for into groups, and later waits until
// all but its N latest groups have arrived; other threads' copies are seen after a __syncthreads().
//
// On the processor the same words are in shim_tensor.cpp.
#ifdef __CUDA_ARCH__

__device__ __forceinline__ unsigned shared_address(const void* at) {
    return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// 16 bytes, both addresses multiples of 16; zeros where `real` is false, and then `from` is not read.
__device__ __forceinline__ void copy_16(void* to, const void* from, bool real) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(real ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void close_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int LATEST>
__device__ __forceinline__ void wait_for_all_but() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LATEST) : "memory");
}

extern __shared__ uint4 dynamic_shared[];  // as many bytes as the launch gave

#endif
